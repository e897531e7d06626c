/** Creates DOM elements. Text is inserted as text nodes or attributes, never as HTML. */

const SVG = "http://www.w3.org/2000/svg";

/** h("p.muted", {title: "…", onclick: f, "--share": 0.5}, "text", node, …). Omits null and false, flattens lists. */
export function h(tag, attributes, ...children) {
  const [name, ...classes] = tag.split(".");
  const element = document.createElement(name);
  if (classes.length) element.classList.add(...classes);
  return populate(element, attributes, children);
}

/** The same for SVG. */
export function svg(tag, attributes, ...children) {
  return populate(document.createElementNS(SVG, tag), attributes, children);
}

/** Replace the children of `place`. Nodes that are already there stay in place and keep their focus. */
export function replace(place, ...children) {
  const nodes = flatten(children).map((child) => (child instanceof Node ? child : document.createTextNode(child)));
  for (const node of [...place.childNodes]) if (!nodes.includes(node)) node.remove();
  nodes.forEach((node, at) => {
    if (place.childNodes[at] !== node) place.insertBefore(node, place.childNodes[at] ?? null);
  });
}

/** `render`, memoized: for equal input it returns the previous nodes, so that they keep their focus. */
export function memoize(render) {
  let previousInput, nodes;
  return (given) => {
    const text = JSON.stringify(given);
    if (text !== previousInput) nodes = render(given);
    previousInput = text;
    return nodes;
  };
}

/** Announce text to screen readers without moving the focus. */
export function announce(text) {
  document.getElementById("announcer").textContent = text;
}

let last = 0;

/** A unique element id, for labels and descriptions. */
export function uniqueId(prefix) {
  last += 1;
  return `${prefix}-${last}`;
}

function populate(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes ?? {})) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (name.startsWith("--")) element.style.setProperty(name, value);
    else element.setAttribute(name, value === true ? "" : value);
  }
  element.append(...flatten(children));
  return element;
}

function flatten(children) {
  return children.flat(Infinity).filter((child) => child !== null && child !== undefined && child !== false);
}
