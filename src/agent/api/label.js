// The digits 1 to 9 press the buttons of the classes, 0 leaves the sample out.
addEventListener("keydown", (event) => {
  if (event.target.tagName === "INPUT" || event.ctrlKey || event.altKey || event.metaKey || !/^[0-9]$/.test(event.key)) return;
  const buttons = event.key === "0" ? document.querySelectorAll(".skip") : document.querySelectorAll(".classes button");
  buttons[Math.max(0, event.key - 1)]?.click();
});
