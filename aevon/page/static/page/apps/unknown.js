// A window whose app this page does not have: made elsewhere, kept where it is.

import { h } from "../dom.js";

/** Says so, and nothing else. */
export const unknown = {
  icon: "unknown",
  mount(body, { type }) {
    body.append(
      h(
        "div",
        { class: "unknown-app" },
        h("p", {}, `There is no app called “${type}” here.`),
        h("p", { class: "quiet" }, "The window and its place are kept."),
      ),
    );
  },
};
