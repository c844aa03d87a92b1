"use strict";
// Tables marked `data-sorts` sort by their headings: buttons, so that keys work too. The order is in the
// hash, `by-NAME=COLUMN` from 1 on, with a minus for downwards, beside what the case browser keeps there.
(() => {
  const MINE = "by-";
  const asked = () => new URLSearchParams(location.hash.includes("=") ? location.hash.slice(1) : "");
  // What a cell is sorted by: the exact number behind what it shows, or its text; null where there is nothing.
  const value = (cell) => {
    const exact = cell?.dataset.v;
    if (exact !== undefined) return exact === "" ? null : Number(exact);
    const text = cell?.textContent.trim().toLowerCase() ?? "";
    return text === "" || text === "–" ? null : text;
  };
  const compare = (a, b) => (typeof a === "number" ? a - b : a.localeCompare(b, "en", { numeric: true }));

  for (const table of document.querySelectorAll("table[data-sorts]")) {
    const name = MINE + table.dataset.sorts;
    const heads = [...table.tHead.rows[0].cells];
    // A group's heading stays on top of its rows.
    const bodies = [...table.tBodies].map((body) => [body, [...body.rows].filter((row) => !row.classList.contains("group"))]);
    const numeric = (i) => bodies.some(([, rows]) => rows.some((row) => typeof value(row.cells[i]) === "number"));
    // A link to a section or to a case changes the address, not the order.
    let now = 0;
    const order = (column) => {
      now = column;
      const i = Math.abs(column) - 1, sign = Math.sign(column);
      for (const [body, rows] of bodies) {
        const keyed = rows.map((row, place) => ({ row, place, key: column ? value(row.cells[i]) : null }));
        if (column) keyed.sort((a, b) => (a.key === null) - (b.key === null) || (a.key === null ? 0 : sign * compare(a.key, b.key)) || a.place - b.place);
        body.append(...keyed.map((one) => one.row));
      }
      heads.forEach((head, at) => {
        if (column && at === i) head.setAttribute("aria-sort", sign > 0 ? "ascending" : "descending");
        else head.removeAttribute("aria-sort");
      });
    };
    const state = () => {
      const column = Math.trunc(Number(asked().get(name))) || 0;
      return Math.abs(column) <= heads.length && heads[Math.abs(column) - 1]?.querySelector(".sort") ? column : 0;
    };
    heads.forEach((head, i) => {
      const text = head.textContent.trim();
      if (!text) return;
      const button = document.createElement("button");
      button.type = "button";
      button.className = "sort";
      button.title = "Sort by this column";
      button.append(...head.childNodes);
      head.append(button);
      button.addEventListener("click", () => {
        // Numbers the largest first, names from A; then the other way round; then as it was.
        const column = i + 1, turns = numeric(i) ? [-column, column, 0] : [column, -column, 0];
        const next = turns[(turns.indexOf(now) + 1) % 3];
        const found = asked();
        if (next) found.set(name, String(next)); else found.delete(name);
        history.replaceState(null, "", `#${found.toString() || "cases="}`);
        order(next);
      });
    });
    const follow = () => { if (asked().has(name)) order(state()); };
    follow();
    addEventListener("hashchange", follow);
  }
})();
