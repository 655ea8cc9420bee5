// The curve: accuracy over GFLOPs, one line a method.

const MARKS = [
  "M-4,0a4,4 0 1,0 8,0a4,4 0 1,0 -8,0Z",
  "M-3.6,-3.6H3.6V3.6H-3.6Z",
  "M0,-5L5,0L0,5L-5,0Z",
  "M0,-5L4.8,3.6H-4.8Z",
  "M0,5L4.8,-3.6H-4.8Z",
  "M-1.7,-4.8H1.7V-1.7H4.8V1.7H1.7V4.8H-1.7V1.7H-4.8V-1.7H-1.7Z",
  "M5,0L-3.6,4.8V-4.8Z",
];
const MARGIN = { top: 12, right: 14, bottom: 46, left: 50 };
const REACH = 36; // Pixels around a point within which it is hovered.

const curve = readBlock("curve");
if (curve) startCurve(curve);

function startCurve({ metrics, methods }) {
  const box = document.getElementById("chart");
  const tip = document.getElementById("chart-tip");
  const legend = document.getElementById("legend");
  const controls = document.getElementById("curve-controls");
  const log = document.getElementById("curve-log");
  const hidden = { all: new Set(), frames: new Set(), patches: new Set() }; // By kind of methods asked for.
  let points = []; // Of what is drawn now: where, and of which method.
  let active = null;
  let svg = null;

  methods.forEach((method) => {
    method.classes = `series colour-${method.look % 12}${method.bound ? " bound" : ""}`;
    method.mark = MARKS[method.look % MARKS.length];
    for (const [kind, on] of Object.entries(method.shows)) if (!on) hidden[kind].add(method);
  });
  const chosen = (name) => controls.elements[name].value;
  const off = () => hidden[chosen("kind")];
  const listed = () => methods.filter((method) => chosen("kind") in method.shows);
  const both = ["frames", "patches"].every((kind) => methods.some((method) => !(kind in method.shows)));
  document.getElementById("curve-kinds").hidden = !both;
  const budgets = methods.flatMap((method) => method.points.map((point) => point.gflops)).sort((a, b) => a - b);
  // Methods that look at everything cost an order more than the rest, where the curves differ.
  log.checked = budgets[0] > 0 && budgets.at(-1) > 4 * budgets[budgets.length >> 1];
  log.disabled = !(budgets[0] > 0);

  function draw() {
    const metric = chosen("metric");
    const shown = listed().filter((method) => !off().has(method));
    const width = Math.max(box.clientWidth, 260);
    const height = Math.round(Math.min(480, Math.max(300, width * 0.55)));
    points = shown.flatMap((method) => method.points
      .filter((point) => point.values[metric][0] !== null && point.gflops !== null)
      .map((point) => ({ method, point, values: point.values[metric] })));
    const x = scale(points.map(({ point }) => point.gflops), MARGIN.left, width - MARGIN.right, log.checked);
    const y = scale(points.flatMap(({ values }) => values.filter((value) => value !== null)),
      height - MARGIN.bottom, MARGIN.top, false, 0, 1);
    for (const place of points) {
      place.x = x.at(place.point.gflops);
      place.y = y.at(place.values[0]);
    }
    const drawn = makeSvg("svg", { viewBox: `0 0 ${width} ${height}`, height, role: "img", "aria-label": "Curve" },
      ...axes(x, y, width, height, metrics[metric]),
      ...shown.map((method) => series(method, points.filter((place) => place.method === method), y)));
    drawn.addEventListener("pointermove", hover);
    drawn.addEventListener("pointerdown", hover);
    drawn.addEventListener("pointerleave", () => activate(null));
    if (svg) svg.replaceWith(drawn);
    else box.prepend(drawn);
    svg = drawn;
    activate(null);
  }

  function hover(event) {
    const frame = svg.getBoundingClientRect();
    const distance = (place) => Math.hypot(place.x - event.clientX + frame.left, place.y - event.clientY + frame.top);
    let nearest = null;
    for (const place of points) {
      if (!nearest || distance(place) < distance(nearest)) nearest = place;
    }
    activate(nearest && distance(nearest) <= REACH ? nearest : null);
  }

  function activate(place) {
    active = place;
    for (const mark of svg.querySelectorAll(".active")) mark.classList.remove("active");
    svg.classList.toggle("one-active", place !== null);
    tip.hidden = place === null;
    if (place === null) return;
    place.element.classList.add("active");
    place.element.parentNode.classList.add("active");
    tip.replaceChildren(...describe(place, metrics[chosen("metric")]));
    const left = place.x + 14 + tip.offsetWidth > box.clientWidth ? place.x - 14 - tip.offsetWidth : place.x + 14;
    tip.style.left = `${Math.max(0, Math.min(left, box.clientWidth - tip.offsetWidth))}px`;
    tip.style.top = `${Math.max(0, place.y - tip.offsetHeight - 10)}px`;
  }

  // The arrow keys: left and right along a method, up and down to the next one.
  function step(event) {
    const moves = { ArrowRight: [0, 1], ArrowLeft: [0, -1], ArrowDown: [1, 0], ArrowUp: [-1, 0] };
    if (event.key === "Escape") activate(null);
    if (!(event.key in moves) || !points.length) return;
    event.preventDefault();
    const [across, along] = moves[event.key];
    const shown = [...new Set(points.map((place) => place.method))];
    if (!active) return activate(points[0]);
    const own = points.filter((place) => place.method === active.method);
    if (along) return activate(own[(own.indexOf(active) + along + own.length) % own.length]);
    const next = shown[(shown.indexOf(active.method) + across + shown.length) % shown.length];
    return activate(points.find((place) => place.method === next));
  }

  function series(method, places, y) {
    const group = makeSvg("g", { class: method.classes, "data-method": method.id });
    for (const { x, values } of places) {
      if (values[1] === null || values[2] === null) continue;
      const [low, high] = [y.at(values[1]), y.at(values[2])];
      group.append(makeSvg("path", { class: "bar", d: `M${x},${low}V${high}M${x - 3},${low}h6M${x - 3},${high}h6` }));
    }
    const path = places.map((place, number) => `${number ? "L" : "M"}${place.x},${place.y}`).join("");
    if (path) group.append(makeSvg("path", { class: "line", d: path }));
    for (const place of places) {
      place.element = makeSvg("path", { class: "mark", d: method.mark, transform: `translate(${place.x},${place.y})` });
      group.append(place.element);
      if (place.point.large_gap) group.append(makeSvg("circle", { class: "ring", cx: place.x, cy: place.y, r: 8 }));
    }
    return group;
  }

  function drawLegend() {
    legend.replaceChildren(...listed().map((method) => make("li", {}, make("button", {
      type: "button", "aria-pressed": String(!off().has(method)),
      click: (event) => (event.shiftKey ? alone(method) : toggle(method)),
      dblclick: () => alone(method),
    },
    makeSvg("svg", { viewBox: "-15 -7 30 14", "aria-hidden": "true" }, makeSvg("g", { class: method.classes },
      makeSvg("path", { class: "line", d: "M-14,0H14" }), makeSvg("path", { class: "mark", d: method.mark }))),
    method.label))));
  }

  function toggle(method) {
    if (!off().delete(method)) off().add(method);
    update();
  }

  // Shown alone already, it brings the others back.
  function alone(method) {
    const others = listed().filter((other) => other !== method);
    const back = others.every((other) => off().has(other));
    off().clear();
    if (!back) others.forEach((other) => off().add(other));
    update();
  }

  function update() {
    // The buttons stay: a double click is two clicks on the same one.
    [...legend.querySelectorAll("button")].forEach((button, number) =>
      button.setAttribute("aria-pressed", String(!off().has(listed()[number]))));
    draw();
  }

  controls.addEventListener("change", () => { drawLegend(); draw(); });
  controls.addEventListener("submit", (event) => event.preventDefault());
  box.addEventListener("keydown", step);
  box.addEventListener("blur", () => activate(null));
  document.getElementById("legend-all").addEventListener("click", () => { off().clear(); update(); });
  drawLegend();
  new ResizeObserver(draw).observe(box);
  draw();
}

/** What is said of a point. */
function describe({ method, point, values: [value, low, high] }, title) {
  const lines = [
    `${title} ${formatAccuracy(value)}`,
    low === null || high === null ? null : `95% interval ${formatAccuracy(low)} to ${formatAccuracy(high)}`,
    point.top1_train === null ? null : `top-1 ${formatAccuracy(point.top1_train)} on training videos`,
    `${formatNumber(point.gflops)} GFLOPs per video`,
    point.frames === null ? null : `${formatNumber(point.frames)} frames`,
    point.videos_per_second === null ? null : `${Math.round(point.videos_per_second)} videos/s`,
  ];
  return [make("strong", {}, method.label), point.setting,
    ...lines.filter((line) => line !== null).map((line) => make("div", {}, line))];
}

/** From values to pixels, with a little room at both ends, and the round values between. */
function scale(values, from, to, logarithmic, least = -Infinity, most = Infinity) {
  const bend = logarithmic ? Math.log : (value) => value;
  let [low, high] = values.length ? [Math.min(...values), Math.max(...values)].map(bend) : [0, 1];
  // Values that differ by rounding alone are one value.
  const apart = high - low > 1e-9 * Math.abs(high) ? high - low : 0;
  const room = apart * 0.04 || Math.abs(high) * 0.1 || 0.1;
  [low, high] = [low - room, high + room];
  const at = (value) => from + ((bend(value) - low) / (high - low)) * (to - from);
  const count = Math.max(3, Math.round(Math.abs(to - from) / (from < to ? 90 : 55))); // Words are wider than high.
  const ticks = (logarithmic ? logTicks(Math.exp(low), Math.exp(high), count) : linearTicks(low, high, count));
  return { at, ticks: ticks.filter((tick) => tick >= least - 1e-9 && tick <= most + 1e-9) };
}

function linearTicks(low, high, count) {
  const rough = (high - low) / count;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 2.5, 5, 10].map((times) => times * power).find((size) => size >= rough * 0.99);
  const ticks = [];
  for (let number = Math.ceil(low / step); number * step <= high; number += 1) ticks.push(number * step + 0); // Not -0.
  return ticks;
}

function logTicks(low, high, count) {
  for (const times of [[1, 1.5, 2, 3, 4, 5, 6, 8], [1, 2, 3, 5], [1, 2, 5], [1]]) {
    const ticks = [];
    for (let power = Math.floor(Math.log10(low)); power <= Math.log10(high); power += 1) {
      ticks.push(...times.map((factor) => factor * 10 ** power).filter((tick) => tick >= low && tick <= high));
    }
    if (ticks.length <= count + 2 && ticks.length > 1) return ticks;
  }
  return linearTicks(low, high, count).filter((tick) => tick > 0);
}

function axes(x, y, width, height, title) {
  const bottom = height - MARGIN.bottom;
  const text = (attributes, words) => makeSvg("text", attributes, words);
  return [
    ...y.ticks.flatMap((tick) => [
      makeSvg("path", { class: "grid", d: `M${MARGIN.left},${y.at(tick)}H${width - MARGIN.right}` }),
      text({ x: MARGIN.left - 8, y: y.at(tick) + 4, "text-anchor": "end" }, formatNumber(tick)),
    ]),
    ...x.ticks.flatMap((tick) => [
      makeSvg("path", { class: "grid", d: `M${x.at(tick)},${MARGIN.top}V${bottom}` }),
      text({ x: x.at(tick), y: bottom + 18, "text-anchor": "middle" }, formatNumber(tick)),
    ]),
    text({ x: (MARGIN.left + width - MARGIN.right) / 2, y: height - 6, "text-anchor": "middle" }, "GFLOPs per video"),
    text({ x: 12, y: (MARGIN.top + bottom) / 2, "text-anchor": "middle",
      transform: `rotate(-90 12 ${(MARGIN.top + bottom) / 2})` }, title),
  ];
}
