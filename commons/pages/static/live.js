// What the event stream of a page cannot bring by itself.
(() => {
  "use strict";
  const live = document.getElementById("live");
  // The end brings what was paid, and the model: other parts of the page.
  live.addEventListener("over", () => location.reload());
  // Who has logged out in another tab, or has been here for too long, is asked to log in.
  live.addEventListener("htmx:sse:error", (event) => {
    if (event.detail.status === 401) location.reload();
  });
})();
