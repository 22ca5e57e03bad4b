// Works on the form of ask.html: chooses, pastes, drops and shrinks photographs, sends them without leaving the page, and
// keeps a history in this browser. Without this script the form is sent as it is.
"use strict";
document.documentElement.classList.add("scripted");
const language = document.getElementById("lang");
language.addEventListener("change", () => language.form.submit());

document.addEventListener("click", async event => {
  const button = event.target.closest("button[data-copy]");
  if (!button) return;
  const source = document.getElementById(button.dataset.copy), selection = getSelection();
  selection.selectAllChildren(source);
  try { await navigator.clipboard.writeText(source.innerText); } catch { document.execCommand("copy"); }  // without https
  button.parentElement.querySelector("[role=status]").textContent = button.dataset.done;
});

const form = document.getElementById("ask");
if (form) start(form);

function start(form) {
  const texts = JSON.parse(form.dataset.texts), most = Number(form.dataset.max), LONGEST = 1280;
  const [input, camera, drop, previews, send, status, answer] = ["image", "camera", "drop", "previews", "send", "status",
    "answer"].map(id => document.getElementById(id));
  let photographs = [], request = null;  // photographs: {file, url}
  input.required = false;

  function add(files) {
    const pictures = [...files].filter(file => file.type.startsWith("image/") || /\.(heic|heif)$/i.test(file.name));
    if (!pictures.length) return say(texts.no_picture);
    const free = most - photographs.length;
    for (const file of pictures.slice(0, free)) photographs.push({file, url: URL.createObjectURL(file)});
    say(pictures.length > free ? texts.too_many : "");
    show();
  }

  function remove(place) {
    URL.revokeObjectURL(photographs[place].url);
    photographs.splice(place, 1);
    show();
    (previews.querySelectorAll("button")[Math.min(place, photographs.length - 1)] || input).focus();
  }

  function show() {
    previews.hidden = !photographs.length;
    send.disabled = !photographs.length;
    previews.replaceChildren(...photographs.map(({file, url}, place) => {
      const item = document.createElement("li"), image = new Image(), button = document.createElement("button");
      image.src = url;
      image.alt = file.name || texts.your_photograph;
      button.type = "button";
      button.textContent = "×";
      button.setAttribute("aria-label", texts.remove.replace("{name}", image.alt));
      button.addEventListener("click", () => remove(place));
      item.append(image, button);
      return item;
    }));
  }

  function say(text, isBusy = false) {
    status.textContent = text;
    status.classList.toggle("busy", isBusy);
  }

  // The engine sees a few hundred pixels: what is larger costs the sender time and money.
  async function shrink(file) {
    try {
      const bitmap = await createImageBitmap(file, {imageOrientation: "from-image"});
      const scale = Math.min(1, LONGEST / Math.max(bitmap.width, bitmap.height));
      if (scale === 1 && file.type === "image/jpeg") return file;
      const canvas = document.createElement("canvas");
      canvas.width = Math.round(bitmap.width * scale);
      canvas.height = Math.round(bitmap.height * scale);
      const context = canvas.getContext("2d");
      context.fillStyle = "#fff";
      context.fillRect(0, 0, canvas.width, canvas.height);
      context.drawImage(bitmap, 0, 0, canvas.width, canvas.height);
      return await new Promise(done => canvas.toBlob(blob => done(blob || file), "image/jpeg", 0.9));
    } catch {
      return file;  // this browser cannot read it, but the service may: HEIC
    }
  }

  // The service knows the photographs only as small as its network sees them.
  function showOriginals(answer) {
    answer.querySelectorAll(".asked > img").forEach((image, place) => {
      const original = new Image();  // which this browser may not be able to read
      original.addEventListener("load", () => { image.src = original.src; });
      if (photographs[place]) original.src = photographs[place].url;
    });
  }

  // Shows only what the page of this service made: not the JSON of a full service, nor the page of a proxy or a hotel.
  async function read(got) {
    if (got.headers.get("X-Part") === "answer") return got.text();
    throw Object.assign(new Error(), {text: got.status >= 500 ? texts.busy : texts.no_connection});
  }

  async function ask() {
    if (!photographs.length) return say(texts.choose_first);
    request?.abort();
    const mine = request = new AbortController();
    say(texts.working, true);
    send.disabled = true;
    try {
      const body = new FormData();
      for (const {file} of photographs) body.append("image", await shrink(file), file.name || "photograph.jpg");
      const got = await fetch(form.action, {method: "POST", body, headers: {"X-Part": "answer"}, signal: mine.signal});
      answer.innerHTML = await read(got);
      showOriginals(answer);
      say("");
      answer.focus();
      answer.scrollIntoView({behavior: "auto", block: "start"});
      if (got.ok) remember(answer);
    } catch (error) {
      if (error.name !== "AbortError") say(error.text || texts.no_connection);
    } finally {
      if (request === mine) send.disabled = false;
    }
  }

  // Deletes the photographs of an answer that the service keeps.
  answer.addEventListener("submit", async event => {
    event.preventDefault();
    const own = event.target, body = new URLSearchParams(new FormData(own));
    own.querySelector("button").disabled = true;
    try {
      const got = await fetch(own.action, {method: "POST", body, headers: {"X-Part": "answer"}});
      own.outerHTML = await read(got);
    } catch (error) {
      own.querySelector("button").disabled = false;
      say(error.text || texts.no_connection);
    }
  });

  input.addEventListener("change", () => { add(input.files); input.value = ""; });
  camera.addEventListener("change", () => { add(camera.files); camera.value = ""; });
  form.addEventListener("submit", event => { event.preventDefault(); ask(); });
  document.addEventListener("paste", event => {
    if (event.clipboardData?.files.length) { event.preventDefault(); add(event.clipboardData.files); }
  });
  for (const name of ["dragover", "dragleave", "drop"]) {
    document.addEventListener(name, event => {
      event.preventDefault();
      drop.classList.toggle("over", name === "dragover");
      if (name === "drop") add(event.dataTransfer.files);
    });
  }

  // Several engines may be below one host.
  const KEY = `aitax-history ${location.pathname}`, KEPT = 30, section = document.getElementById("history");
  function history() {
    try { return JSON.parse(localStorage.getItem(KEY)).filter((entry) => entry.text); } catch { return []; }
  }
  function store(entries) {
    try { localStorage.setItem(KEY, JSON.stringify(entries)); } catch { /* it is full, or not allowed */ }
    showHistory();
  }
  async function remember(answer) {
    const best = answer.querySelector(".result"), image = answer.querySelector(".asked img");
    if (!best || !image) return;
    await image.decode().catch(() => {});
    const canvas = document.createElement("canvas"), scale = 160 / Math.max(image.naturalWidth, image.naturalHeight, 160);
    canvas.width = Math.max(1, image.naturalWidth * scale);
    canvas.height = Math.max(1, image.naturalHeight * scale);
    canvas.getContext("2d").drawImage(image, 0, 0, canvas.width, canvas.height);
    const rejection = answer.querySelector(".unknown strong");  // then no species was named
    const text = rejection ? rejection.textContent.replace(/\.$/, "") : `${best.dataset.name}, ${best.dataset.shown}`;
    store([{text, time: Date.now(), picture: canvas.toDataURL("image/jpeg", 0.8)}, ...history()].slice(0, KEPT));
  }
  function showHistory() {
    const here = document.documentElement.lang;
    const region = navigator.languages.find((code) => code.split("-")[0] === here) || here;  // dates: en-GB is not en-US
    const entries = history();
    section.hidden = !entries.length;
    section.querySelector("ol").replaceChildren(...entries.map(({text: line, time, picture}) => {
      const item = document.createElement("li"), image = new Image(), text = document.createElement("p");
      image.src = String(picture).startsWith("data:image/jpeg") ? picture : "";
      image.alt = "";
      text.textContent = `${line}, ${new Date(time).toLocaleDateString(region)}`;
      item.append(image, text);
      return item;
    }));
  }
  document.getElementById("forget").addEventListener("click", () => store([]));
  show();
  showHistory();
}
