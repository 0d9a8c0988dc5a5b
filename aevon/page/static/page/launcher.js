// The launcher: every Micro-App there is, in a menu of the top bar.

import { APPS } from "./apps/index.js";
import { byId, icon } from "./dom.js";
import { attachMenu } from "./menu.js";

/** Let the button open it. */
export function attachLauncher(windows) {
  const items = () =>
    APPS.map((app) => ({
      label: app.title,
      icon: icon(app.icon),
      run: () => windows.open(app),
    }));
  attachMenu(byId("launcher"), "Open a Micro-App", items);
}
