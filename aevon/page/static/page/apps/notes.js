// Notes: a sheet of text that is written through as one types.

import { h } from "../dom.js";
import { Draft } from "../draft.js";

/** Closing keeps the text: it is there again when a window of the same id is opened. */
export const notes = {
  type: "notes",
  aliases: ["note"],
  title: "Notes",
  icon: "notes",
  size: { width: 360, height: 280 },
  isMany: true,

  mount(body, { api, id, title, drafts }) {
    const isOurs = (each) => each.id === id;
    const draft = [...drafts].find(isOurs) ?? new Draft(api, id);
    const paper = h("textarea", {
      class: "paper",
      "aria-label": `Text of ${title()}`,
      placeholder: "Write…",
      maxlength: "20000",
      disabled: true,
    });
    const state = h("p", { class: "note-state quiet", role: "status" }, "…");
    paper.addEventListener("input", () => draft.write(paper.value));
    const redraw = () => show(draft, paper, state);
    draft.addEventListener("change", redraw);
    body.classList.add("has-paper");
    body.append(paper, state);
    drafts.add(draft);
    if (draft.isKnown) redraw();
    draft.start();
    return {
      unmount() {
        // What was typed last is still on its way; the draft ends when it has arrived. One that was
        // refused exists nowhere else: it is there when the window is opened again.
        draft.removeEventListener("change", redraw);
        draft.close().then(() => draft.isClosed && !draft.isWaiting && drafts.delete(draft));
      },
    };
  },
};

function show(draft, paper, state) {
  paper.disabled = !draft.isKnown;
  if (paper.value !== draft.text) replaceText(paper, draft.text);
  state.textContent = draft.words;
  state.classList.toggle("waits", draft.isWaiting);
}

/** With the caret where it was: the text may have changed elsewhere. */
function replaceText(paper, text) {
  const { selectionStart, selectionEnd } = paper;
  paper.value = text;
  if (document.activeElement === paper) paper.setSelectionRange(selectionStart, selectionEnd);
}
