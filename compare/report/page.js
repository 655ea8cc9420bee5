"use strict";

// What all scripts of the page share: reading blocks, making elements; and the tables and commands.

/** The data of a block; null where the page has none of that name. */
function readBlock(name) {
  const block = document.getElementById(`data-${name}`);
  return block && JSON.parse(block.textContent);
}

/** An element with attributes (functions are listeners) and children; strings become text, never markup. */
function make(tag, attributes = {}, ...children) {
  return fill(document.createElement(tag), attributes, children);
}

function makeSvg(tag, attributes = {}, ...children) {
  return fill(document.createElementNS("http://www.w3.org/2000/svg", tag), attributes, children);
}

function fill(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (typeof value === "function") element.addEventListener(name, value);
    else if (value !== null && value !== false) element.setAttribute(name, value === true ? "" : value);
  }
  element.append(...children.filter((child) => child !== null));
  return element;
}

// So that the page says the same number wherever it stands.
const AS_PYTHON = { roundingMode: "halfEven" };

/** A few significant digits, without exponents or trailing zeros. */
function formatNumber(value, digits = 4) {
  return value.toLocaleString("en", { maximumSignificantDigits: digits, useGrouping: false, ...AS_PYTHON });
}

/** Three decimal places. */
function formatAccuracy(value) {
  return value.toLocaleString("en", { minimumFractionDigits: 3, maximumFractionDigits: 3, ...AS_PYTHON });
}

// A click on a heading sorts by its column, a second one the other way round; empty cells stay last.
function sortBy(heading) {
  const table = heading.closest("table");
  const column = [...heading.parentNode.children].indexOf(heading);
  const direction = heading.getAttribute("aria-sort") === "ascending" ? "descending" : "ascending";
  for (const other of heading.parentNode.children) other.removeAttribute("aria-sort");
  heading.setAttribute("aria-sort", direction);
  const sign = direction === "ascending" ? 1 : -1;
  const rows = [...table.tBodies[0].rows];
  const key = (row) => row.cells[column].dataset.sort;
  const numbers = rows.every((row) => row.cells[column].classList.contains("number") || !key(row));
  rows.sort((one, two) => {
    const [a, b] = [key(one), key(two)];
    if (a === undefined || b === undefined) return (a === undefined) - (b === undefined);
    return sign * (numbers ? a - b : a.localeCompare(b, "en", { numeric: true }));
  });
  table.tBodies[0].append(...rows);
}

for (const button of document.querySelectorAll(".sortable th button")) {
  button.addEventListener("click", () => sortBy(button.parentNode));
}

for (const button of document.querySelectorAll(".copy")) {
  button.addEventListener("click", async () => {
    const text = button.parentNode.querySelector("code");
    try {
      await navigator.clipboard.writeText(text.textContent);
      button.textContent = "copied";
    } catch {
      // Where the clipboard is out of reach, the command is selected instead.
      getSelection().selectAllChildren(text);
      button.textContent = "selected";
    }
    setTimeout(() => { button.textContent = "copy"; }, 1500);
  });
}
