// A cursor over each chart: the nearest step, and every line's value there.
(() => {
  const data = JSON.parse(document.getElementById("chart-data").textContent);
  const svgns = "http://www.w3.org/2000/svg";
  const show = (v) => (v !== 0 && Math.abs(v) < 1e-3 ? v.toExponential(2) : String(+v.toPrecision(4)));
  for (const figure of document.querySelectorAll("[data-chart]")) {
    const chart = data[figure.dataset.chart], svg = figure.querySelector("svg");
    const [low, high, start, end] = chart.x;
    const [yLow, yHigh, yStart, yEnd] = chart.y;
    let tip = null, hair = null;
    const leave = () => { tip?.remove(); hair?.remove(); tip = hair = null; };
    svg.addEventListener("pointerleave", leave);
    svg.addEventListener("pointermove", (event) => {
      const box = svg.getBoundingClientRect(), scale = box.width / svg.viewBox.baseVal.width;
      const x = low + ((event.clientX - box.left) / scale - start) / (end - start) * (high - low);
      const near = chart.lines.map((line) =>
        line.points.reduce((a, b) => (Math.abs(b[0] - x) < Math.abs(a[0] - x) ? b : a)));
      if (!near.length) return;
      const step = near.reduce((a, b) => (Math.abs(b[0] - x) < Math.abs(a[0] - x) ? b : a))[0];
      if (!tip) {
        tip = figure.appendChild(document.createElement("div"));
        tip.className = "cursor";
        hair = svg.appendChild(document.createElementNS(svgns, "line"));
        hair.setAttribute("class", "hair");
        hair.setAttribute("y1", yEnd);
        hair.setAttribute("y2", yStart);
      }
      const at = start + (step - low) / (high - low) * (end - start);
      hair.setAttribute("x1", at);
      hair.setAttribute("x2", at);
      tip.replaceChildren(document.createTextNode("step " + step.toLocaleString("en")));
      chart.lines.forEach((line, index) => {
        const row = tip.appendChild(document.createElement("div"));
        const mark = row.appendChild(document.createElement("i"));
        mark.className = "c" + line.colour;
        row.append((chart.lines.length > 1 ? line.name + " " : "") + show(near[index][1]));
      });
      const frame = figure.getBoundingClientRect();
      const left = box.left - frame.left + at * scale;
      tip.style.left = (left + tip.offsetWidth + 14 > frame.width ? left - tip.offsetWidth - 10 : left + 10) + "px";
      tip.style.top = event.clientY - frame.top - tip.offsetHeight / 2 + "px";
    });
  }
})();
