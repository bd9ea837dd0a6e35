"use strict";
// What a cell says: of a name with a line below it, the name.
const text = (cell) => (cell.querySelector("bdi") ?? cell).textContent.trim();

// Tables whose columns sort. Values that are missing stay last either way.
for (const table of document.querySelectorAll("table.sortable")) {
  const heads = [...table.tHead.rows[0].cells], body = table.tBodies[0];
  const value = (cell) => parseFloat(cell.dataset.value ?? cell.textContent);
  const compare = (a, b, numeric, sign) => {
    if (!numeric) return sign * text(a).localeCompare(text(b), "en", {numeric: true});
    const [x, y] = [value(a), value(b)];
    if (isNaN(x) || isNaN(y)) return isNaN(x) - isNaN(y);
    return sign * (x - y);
  };
  heads.forEach((head, place) => {
    if (!head.dataset.sort) return;
    const button = document.createElement("button");
    button.type = "button";
    button.append(...head.childNodes);
    head.append(button);
    button.addEventListener("click", () => {
      const sign = head.getAttribute("aria-sort") === "ascending" ? -1 : 1;
      for (const other of heads) other.removeAttribute("aria-sort");
      head.setAttribute("aria-sort", sign > 0 ? "ascending" : "descending");
      const numeric = head.dataset.sort === "number";
      const rows = [...body.rows].sort((a, b) => compare(a.cells[place], b.cells[place], numeric, sign));
      body.append(...rows);
    });
  });
}

// The board's filters, whose state is in the address behind #.
const filters = document.getElementById("filters");
if (filters) {
  const fields = ["search", "protocol", "trained", "transductive"].map((name) => document.getElementById(name));
  const published = document.getElementById("published"); // a board without such rows has none
  const withPublished = () => published?.checked ?? true;
  const rows = [...document.querySelectorAll("tr.row")];
  const told = new Map(rows.map((row) => {
    const trained = text(row.querySelector(".trained")), transductive = "transductive" in row.dataset ? "yes" : "no";
    return [row, {trained, transductive, words: `${row.querySelector("th").textContent} ${trained}`.toLowerCase()}];
  }));

  const show = () => {
    const [search, protocol, trained, transductive] = fields.map((field) => field.value);
    const wanted = search.toLowerCase().split(/\s+/);
    let count = 0;
    for (const [row, its] of told) {
      row.hidden = !(
        (!protocol || row.closest(".protocol").dataset.protocol === protocol) &&
        (!trained || its.trained === trained) &&
        (!transductive || its.transductive === transductive) &&
        (withPublished() || !("published" in row.dataset)) &&
        wanted.every((word) => its.words.includes(word))
      );
      count += !row.hidden;
    }
    // The inner sections first: one of several hides when they all do.
    for (const section of [...document.querySelectorAll("section")].reverse()) {
      section.hidden = !section.querySelector("tr.row:not([hidden])");
    }
    for (const jump of document.querySelectorAll(".jump li")) {
      const section = document.getElementById(jump.querySelector("a").hash.slice(1));
      jump.hidden = section.hidden;
      jump.querySelector("span").textContent = section.querySelectorAll("tr.row:not([hidden])").length;
    }
    document.getElementById("none").hidden = count > 0;
    document.getElementById("shown").textContent = `${count} of ${rows.length} rows shown`;
    document.getElementById("reset").disabled = withPublished() && fields.every((field) => !field.value);
  };
  const keep = () => {
    const state = new URLSearchParams(fields.filter((field) => field.value).map((field) => [field.id, field.value]));
    if (!withPublished()) state.set("published", "no");
    history.replaceState(null, "", `#${state}`);
    show();
  };
  const restore = () => {
    const state = new URLSearchParams(location.hash.slice(1));
    for (const field of fields) {
      field.value = state.get(field.id) ?? "";
      if (field.selectedIndex === -1) field.value = ""; // what this board does not have
    }
    if (published) published.checked = state.get("published") !== "no";
    show();
  };
  for (const kind of ["input", "change"]) filters.addEventListener(kind, keep);
  document.getElementById("reset").addEventListener("click", () => {
    for (const field of fields) field.value = "";
    if (published) published.checked = true;
    keep();
  });
  // A jump to a table leaves the filters as they are.
  addEventListener("hashchange", () => document.getElementById(location.hash.slice(1)) || restore());
  filters.hidden = false;
  restore();
}
