/** Elements. Whatever is text goes in as a text node or an attribute, never as HTML. */

const SVG = "http://www.w3.org/2000/svg";

/** h("p.muted", {title: "…", onclick: f, "--share": 0.5}, "text", node, …). null and false are left out, lists flattened. */
export function h(tag, attributes, ...children) {
  const [name, ...classes] = tag.split(".");
  const element = document.createElement(name);
  if (classes.length) element.classList.add(...classes);
  return dress(element, attributes, children);
}

/** The same for SVG. */
export function svg(tag, attributes, ...children) {
  return dress(document.createElementNS(SVG, tag), attributes, children);
}

/** Put `children` in the place of what is there; what is there already is left alone, and so keeps its focus. */
export function replace(place, ...children) {
  const nodes = flat(children).map((child) => (child instanceof Node ? child : document.createTextNode(child)));
  for (const node of [...place.childNodes]) if (!nodes.includes(node)) node.remove();
  nodes.forEach((node, at) => {
    if (place.childNodes[at] !== node) place.insertBefore(node, place.childNodes[at] ?? null);
  });
}

/** `render`, which gives the nodes that it gave before as long as it is given the same, so that their focus stays. */
export function steady(render) {
  let said, shown;
  return (given) => {
    const text = JSON.stringify(given);
    if (text !== said) shown = render(given);
    said = text;
    return shown;
  };
}

/** Let screen readers say it, without moving the focus. */
export function announce(text) {
  document.getElementById("announcer").textContent = text;
}

let last = 0;

/** An id that no other element has, for labels and descriptions. */
export function fresh(prefix) {
  last += 1;
  return `${prefix}-${last}`;
}

function dress(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes ?? {})) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (name.startsWith("--")) element.style.setProperty(name, value);
    else element.setAttribute(name, value === true ? "" : value);
  }
  element.append(...flat(children));
  return element;
}

function flat(children) {
  return children.flat(Infinity).filter((child) => child !== null && child !== undefined && child !== false);
}
