// A copy button behind each text that is made to be copied. Without this script a click selects
// all of it.
"use strict";

async function copy(text) {
  if (navigator.clipboard) {
    await navigator.clipboard.writeText(text);
    return true;
  }
  // Not over plain HTTP. (developer.mozilla.org/docs/Web/API/Clipboard: secure contexts only)
  const area = document.createElement("textarea");
  area.value = text;
  document.body.append(area);
  area.select();
  const done = document.execCommand("copy");
  area.remove();
  return done;
}

function addButton(code) {
  const button = document.createElement("button");
  button.type = "button";
  button.className = "idempotency-copy-button";
  button.textContent = code.dataset.copy;
  button.addEventListener("click", async () => {
    let done = false;
    try {
      done = await copy(code.textContent);
    } catch {
      // The browser does not allow it.
    }
    if (done) {
      button.textContent = code.dataset.copied;
      button.focus();
    } else {
      getSelection().selectAllChildren(code);
    }
  });
  code.after(button);
}

document.addEventListener("DOMContentLoaded", () => {
  document.querySelectorAll(".idempotency-copy").forEach(addButton);
});
