// Where the reader is, kept in the address: filters and open runs survive a reload, a bookmark and the back button.

import { useEffect, useState } from "./preact.js";

const moved = new Set();
addEventListener("popstate", () => moved.forEach((tell) => tell()));

/** The address's parameters, as an object. */
export const here = () => Object.fromEntries(new URLSearchParams(location.search));

/** The address of a place; empty values are left out. */
export function address(place) {
  const query = new URLSearchParams(Object.entries(place).filter(([, value]) => value !== "" && value != null));
  return location.pathname + (query.size ? `?${query}` : "");
}

/** Go there; `replace`: without a new entry in the history. */
export function go(place, { replace = false } = {}) {
  history[replace ? "replaceState" : "pushState"](null, "", address(place));
  moved.forEach((tell) => tell());
}

/** What an anchor needs, so that a plain click stays in the page and any other opens a tab as ever. */
export function link(place) {
  return {
    href: address(place),
    onClick: (event) => {
      if (event.button || event.metaKey || event.ctrlKey || event.shiftKey || event.altKey) return;
      event.preventDefault();
      go(place);
    },
  };
}

export function usePlace() {
  const [place, set] = useState(here);
  useEffect(() => {
    const tell = () => set(here());
    moved.add(tell);
    return () => moved.delete(tell);
  }, []);
  return place;
}
