"use strict";
(async () => {
  const seconds = Number(document.body.dataset.reloadS);
  if (seconds > 0) setTimeout(() => location.reload(), 1000 * seconds);

  const explain = (place, error) => {
    place.textContent = `This plot could not be drawn: ${error}`;
    place.className = "problem";
    place.removeAttribute("style");
  };
  const unpack = async (id) => {
    const packed = Uint8Array.from(atob(document.getElementById(id).textContent), (c) => c.charCodeAt(0));
    const stream = new Blob([packed]).stream().pipeThrough(new DecompressionStream("gzip"));
    return new Response(stream).text();
  };
  const places = [...document.querySelectorAll(".plot")];
  if (places.length > 0) {
    try {
      if (typeof DecompressionStream === "undefined") throw new Error("this browser is older than 2023");
      const library = document.createElement("script");
      library.textContent = await unpack("library");
      document.head.append(library);
      const figures = JSON.parse(await unpack("figures"));
      const options = { responsive: true, displaylogo: false };
      for (const place of places) {
        try {
          const figure = figures[Number(place.id.slice("plot-".length))];
          await Plotly.newPlot(place, figure.data, figure.layout, options);
        } catch (error) {
          explain(place, error);
        }
      }
    } catch (error) {
      places.filter((place) => !place.firstChild).forEach((place) => explain(place, error));
    }
  }
  document.documentElement.dataset.drawn = "true";
})();
