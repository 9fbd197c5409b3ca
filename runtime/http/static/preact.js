// The view library as the rest of the page knows it: markup in tagged templates, drawn once per animation frame.

import { h, options, render } from "./vendor/preact.js";
import htm from "./vendor/htm.js";

options.debounceRendering = requestAnimationFrame;

export const html = htm.bind(h);
export { render };
export { useEffect, useLayoutEffect, useMemo, useRef, useState } from "./vendor/hooks.js";
