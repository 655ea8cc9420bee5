// The videos: their candidate frames, what each method chose and said, and filters over them.

const PAGE = 10;
const LARGE_FRAME = 128; // Pixels of an enlarged frame's height.
const NOWHERE = 255; // Coordinate of a patch in a frame that the method did not look at.
const ARRAYS = { prediction: Int32Array, gflops: Float32Array };

const gallery = readBlock("gallery");
if (gallery) startGallery(gallery);

function startGallery({ videos, videosOfSplit, labels, classes, candidates, seconds, seeds, methods, frame, stripBlock }) {
  const find = (id) => document.getElementById(id);
  const [width, height] = frame ?? [1, 1];
  const times = seconds && unpack(seconds, Float32Array);
  const shown = new Set(methods);
  let matching = [];
  let page = 0;

  methods.forEach((method) => { method.setting = method.settings[method.usual]; });

  // Blocks are read when something of them is shown, and once.
  const blocks = new Map();
  function block(name) {
    if (!blocks.has(name)) blocks.set(name, readBlock(name));
    return blocks.get(name);
  }

  /** A method's choices under the seed that is chosen; one trained with fewer seeds shows its first. */
  function choices(method) {
    const of = method.setting.blocks;
    const data = block(of[find("seed").value] ?? Object.values(of)[0]);
    for (const [name, text] of Object.entries(data)) {
      if (typeof text === "string") data[name] = unpack(text, ARRAYS[name] ?? Uint8Array);
    }
    return data;
  }

  const bytes = Math.ceil(candidates / 8); // Of one video's chosen frames.
  const looked = (data, video) => [...Array(candidates).keys()]
    .filter((index) => (data.chosen[video * bytes + (index >> 3)] >> (index & 7)) & 1);
  const className = (label) => classes[label] ?? (label < 0 ? "nothing" : String(label));

  function matches() {
    const text = find("filter-text").value.trim().toLowerCase();
    const label = find("filter-class").value;
    const agreement = find("filter-agreement").value;
    const outcomes = [0, 1]
      .map((number) => [methods[find(`outcome-method-${number}`).value], find(`outcome-${number}`).value])
      .filter(([, outcome]) => outcome)
      .map(([method, outcome]) => [choices(method).correct, Number(outcome === "right")]);
    const said = agreement ? [...shown].map((method) => choices(method).prediction) : [];
    return [...videos.keys()].filter((video) =>
      (!text || videos[video].toLowerCase().includes(text))
      && (!label || labels[video].includes(Number(label)))
      && outcomes.every(([correct, wanted]) => correct[video] === wanted)
      && (!agreement || said.some((one) => one[video] !== said[0][video]) === (agreement === "disagree")));
  }

  function update() {
    matching = matches();
    page = 0;
    const all = `${videos.length} video${videos.length === 1 ? "" : "s"}`;
    const first = videos.length < videosOfSplit ? ` (the first of ${videosOfSplit} of the split)` : "";
    find("matches").textContent = `${matching.length} of ${all}${first}`;
    show();
  }

  function show() {
    const pages = Math.max(1, Math.ceil(matching.length / PAGE));
    find("page-number").textContent = `${page + 1} / ${pages}`;
    for (const end of ["", "-2"]) {
      find(`page-before${end}`).disabled = page === 0;
      find(`page-next${end}`).disabled = page >= pages - 1;
    }
    const cards = matching.slice(page * PAGE, (page + 1) * PAGE).map(card);
    find("cards").replaceChildren(
      ...(cards.length ? cards : [make("p", { class: "empty" }, "No video matches these filters.")]));
  }

  function card(video) {
    const strip = drawStrip(video);
    const names = [];
    const draw = (method) => {
      strip.querySelector(".drawn").replaceChildren(...(method ? marks(method, choices(method), video) : []));
      names.forEach(([name, of]) => name.setAttribute("aria-pressed", String(of === method)));
    };
    const rows = [...shown].map((method) => {
      const name = make("button", { type: "button", class: "name", title: "draw on the frames",
        click: () => draw(name.getAttribute("aria-pressed") === "true" ? null : method) },
      method.label, " ", make("small", {}, method.setting.label));
      names.push([name, method]);
      return row(name, choices(method), video);
    });
    draw(methods[find("drawn").value] ?? null);
    return make("article", { class: "card", "data-video": videos[video] },
      make("h3", {}, make("span", { class: "id" }, videos[video]),
        ...labels[video].map((label) => make("span", { class: "badge" }, className(label)))),
      make("div", { class: "row" }, make("div", { class: "frames" }, strip)), ...rows);
  }

  function row(name, data, video) {
    const right = data.correct[video] === 1;
    const chosen = looked(data, video);
    const track = make("div", { class: "track", role: "img",
      "aria-label": `frames ${chosen.map((index) => index + 1).join(", ") || "none"} of ${candidates}` },
    ...chosen.map((index) => {
      const mark = make("i");
      mark.style.gridColumn = index + 1;
      return mark;
    }));
    track.style.gridTemplateColumns = `repeat(${candidates}, 1fr)`;
    const probability = data.probability ? ` ${data.probability[video]}%` : "";
    const more = [right ? null : `true ${data.truth[video]}%`, `${formatNumber(data.gflops[video], 3)} GFLOPs`];
    return make("div", { class: `row ${right ? "right" : "wrong"}` }, name, track,
      make("span", { class: "verdict" }, make("b", {}, right ? "✓" : "✗", make("span", { class: "hidden" },
        right ? " right: " : " wrong: ")), ` ${className(data.prediction[video])}${probability} `,
      make("small", { class: "more" }, more.filter((part) => part !== null).join(" · "))));
  }

  /** All candidate frames in a row, grey where the page has none, under a drawing in units of their pixels. */
  function drawStrip(video) {
    const image = frame && block(`strips-${Math.floor(video / stripBlock)}`)[video % stripBlock];
    const tiles = [...Array(candidates).keys()].map((index) => {
      const words = `frame ${index + 1}${times ? `, ${times[video * candidates + index].toFixed(2)} s` : ""}`;
      return makeSvg("rect", { class: image ? null : "tile", fill: image ? "transparent" : null,
        x: index * width, width, height }, makeSvg("title", {}, words));
    });
    const strip = make("button", { type: "button", class: "strip", "aria-label": "enlarge the frames",
      click: () => strip.classList.toggle("large") },
    image ? make("img", { src: `data:image/webp;base64,${image}`, alt: `${candidates} candidate frames`,
      width: candidates * width, height }) : null,
    makeSvg("svg", { viewBox: `0 0 ${candidates * width} ${height}`, preserveAspectRatio: "none" },
      makeSvg("g", { class: "drawn" }), ...tiles));
    strip.style.aspectRatio = `${candidates * width} / ${height}`;
    strip.style.setProperty("--large", `${Math.round((candidates * LARGE_FRAME * width) / height)}px`);
    return strip;
  }

  /** Frames that it did not process under a veil; of patches also where it looked in the others. */
  function marks(method, data, video) {
    const chosen = new Set(looked(data, video));
    const veils = [...Array(candidates).keys()].filter((index) => !chosen.has(index))
      .map((index) => makeSvg("rect", { class: "veil", x: index * width, width, height }));
    const share = method.setting.share;
    const patches = data.patches && share === null ? [] : [...(data.patches ? chosen : [])].flatMap((index) => {
      const [top, left] = data.patches.slice(2 * (video * candidates + index), 2 * (video * candidates + index) + 2);
      if (top === NOWHERE) return [];
      const place = { x: index * width + (left / 254) * width * (1 - share), y: (top / 254) * height * (1 - share),
        width: width * share, height: height * share };
      return ["look under", "look"].map((look) => makeSvg("rect", { class: look, ...place }));
    });
    return [...veils, ...patches];
  }

  function listMethods() {
    find("method-list").replaceChildren(...methods.map((method) => make("div", {},
      make("label", {}, make("input", { type: "checkbox", checked: shown.has(method), change: ({ target }) => {
        if (target.checked) shown.add(method);
        else shown.delete(method);
        inOrder();
        update();
      } }), " ", method.label),
      make("select", { "aria-label": `setting of ${method.label}`, "data-method": method.id, change: ({ target }) => {
        method.setting = method.settings[target.value];
        update();
      } }, ...method.settings.map((setting, number) =>
        make("option", { value: number, selected: setting === method.setting }, setting.label || "–"))))));
  }

  function inOrder() {
    const order = methods.filter((method) => shown.has(method));
    shown.clear();
    order.forEach((method) => shown.add(method));
  }

  function showMethods(some) {
    shown.clear();
    some.forEach((method) => shown.add(method));
    listMethods();
    update();
  }

  const options = (names) => names.map((name, number) => make("option", { value: number }, name));
  const names = methods.map((method) => method.label);
  for (const id of ["outcome-method-0", "outcome-method-1", "drawn"]) find(id).append(...options(names));
  if (methods.length > 1) find("outcome-method-1").value = 1;
  find("filter-class").append(...options(classes));
  find("seed").append(...seeds.map((seed) => make("option", { value: seed }, String(seed))));
  find("seed-label").hidden = seeds.length < 2;
  find("filter-text").addEventListener("input", update);
  for (const select of find("filters").querySelectorAll("select")) select.addEventListener("change", update);
  find("filters").addEventListener("submit", (event) => event.preventDefault());
  find("filters").addEventListener("reset", () => setTimeout(update)); // After the controls have their values.
  find("show-all").addEventListener("click", () => showMethods(methods));
  find("show-none").addEventListener("click", () => showMethods([]));
  for (const kind of ["frames", "patches"]) {
    const some = methods.filter((method) => method.kind === kind);
    find(`show-${kind}`).hidden = some.length === 0 || some.length === methods.length;
    find(`show-${kind}`).addEventListener("click", () => showMethods(some));
  }
  const turn = (pages) => () => { page += pages; show(); };
  for (const end of ["", "-2"]) {
    find(`page-before${end}`).addEventListener("click", turn(-1));
    find(`page-next${end}`).addEventListener("click", turn(1));
  }
  for (const pages of ["before", "next"]) {
    find(`page-${pages}-2`).addEventListener("click", () => find("videos").scrollIntoView());
  }
  listMethods();
  update();
}

/** Numbers from base64, little-endian as every browser's machine is. */
function unpack(text, kind) {
  const bytes = Uint8Array.from(atob(text), (character) => character.charCodeAt(0));
  return new kind(bytes.buffer);
}
