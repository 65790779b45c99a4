// Draws the MSE of a training from the points in the page, and goes on with those that the event stream brings.
(() => {
  "use strict";
  const place = document.getElementById("curve");
  if (!place) return;
  const live = document.getElementById("live");
  const dark = matchMedia("(prefers-color-scheme: dark)");
  let points = JSON.parse(place.dataset.points);
  let plot = null;

  const columns = () => [points.map((point) => point[0]), points.map((point) => point[1])];
  const width = () => Math.max(240, place.clientWidth);

  function draw() {
    const style = getComputedStyle(document.documentElement);
    const colour = (name) => style.getPropertyValue(name).trim();
    const format = (value) => value?.toLocaleString(document.documentElement.lang, { maximumSignificantDigits: 6 }) ?? "–";
    const axis = { stroke: colour("--pico-color"), grid: { stroke: colour("--pico-muted-border-color"), width: 1 } };
    plot?.destroy();
    place.replaceChildren();
    plot = new uPlot({
      width: width(),
      height: 280,
      scales: { x: { time: false } },
      axes: [
        { ...axis, label: place.dataset.iteration },
        { ...axis, label: place.dataset.mse, size: 70, values: (_, ticks) => ticks.map(format) },
      ],
      series: [
        { label: place.dataset.iteration, value: (_, value) => format(value) },
        { label: place.dataset.mse, stroke: colour("--pico-primary"), width: 2, points: { show: true, size: 5 }, value: (_, value) => format(value) },
      ],
    }, columns(), place);
  }

  // Until there is a point, the page says so in its place.
  if (points.length) draw();
  dark.addEventListener("change", () => plot && draw());
  addEventListener("resize", () => plot?.setSize({ width: width(), height: 280 }));
  live?.addEventListener("measured", (event) => {
    const news = JSON.parse(event.detail.data);
    points = points.slice(0, news.start).concat(news.points);
    plot ? plot.setData(columns()) : draw();
  });
})();
