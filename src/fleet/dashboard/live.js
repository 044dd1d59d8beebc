// Reads again what is under way: the sections with `data-live`, every so many seconds, from the page itself. Without it a reload does.
"use strict";

const live = () => [...document.querySelectorAll("section[data-live][id]")];

// Nothing is taken from under somebody's hands.
const busy = (section) => section.contains(document.activeElement) || section.querySelector("details[open]");

async function again() {
  const answer = await fetch(location.href, { headers: { accept: "text/html" }, redirect: "error" });
  if (!answer.ok) return;
  const page = new DOMParser().parseFromString(await answer.text(), "text/html");
  for (const section of live()) {
    const next = page.getElementById(section.id);
    if (next && !busy(section) && next.innerHTML !== section.innerHTML) section.replaceWith(document.adoptNode(next));
  }
}

function wait() {
  const seconds = live().map((section) => Number(section.dataset.live)).filter((s) => s > 0);
  if (seconds.length === 0) return;
  setTimeout(async () => {
    try {
      if (!document.hidden) await again();
    } catch {
      // The server is away, or somebody has signed out; the next time may do.
    }
    wait();
  }, 1000 * Math.min(...seconds));
}

wait();
