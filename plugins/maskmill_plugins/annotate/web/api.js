/** The client of the server's HTTP interface. */

const TOKEN = "maskmill.token";

/** An error response (RFC 9457). */
export class Problem extends Error {
  /**
   * @param {number} status
   * @param {Record<string, any>} body
   * @param {number} retryAfter  seconds, 0 if another try is of no use
   */
  constructor(status, body, retryAfter) {
    super(body.detail || body.title || `HTTP ${status}`);
    this.status = status;
    this.kind = String(body.type ?? "").split(":").pop();
    this.body = body;
    this.retryAfter = retryAfter;
  }
}

/** No response: the server cannot be reached. */
export class Unreachable extends Error {}

export class Api {
  constructor() {
    this.base = new URL("../v1/", location.href);
    this.token = takeToken();
    /** Called after each request: true if it was answered, false if the server was not reached. */
    this.reached = (/** @type {boolean} */ answered) => void answered;
  }

  /** @param {string} token */
  useToken(token) {
    this.token = token;
    keep(sessionStorage, TOKEN, token);
  }

  /**
   * @param {string} path  below /v1/, with its query
   * @param {RequestInit & {json?: unknown}} [options]
   * @returns {Promise<Response>}
   * @throws {Problem} the server refuses
   * @throws {Unreachable} there is no server
   */
  async send(path, { json, ...options } = {}) {
    const headers = new Headers(options.headers);
    if (this.token) headers.set("Authorization", `Bearer ${this.token}`);
    if (json !== undefined) headers.set("Content-Type", "application/json");
    const body = json === undefined ? options.body : JSON.stringify(json);
    let answer;
    try {
      answer = await fetch(new URL(path, this.base), { ...options, headers, body });
    } catch (error) {
      if (error instanceof DOMException && error.name === "AbortError") throw error;
      this.reached(false);
      throw new Unreachable(String(error));
    }
    if (answer.status === 502 || answer.status === 504 && !isProblem(answer)) { // a proxy that cannot reach the server
      this.reached(false);
      throw new Unreachable(`HTTP ${answer.status}`);
    }
    this.reached(true);
    if (answer.ok) return answer;
    const problem = isProblem(answer) ? await answer.json().catch(() => ({})) : {};
    throw new Problem(answer.status, problem, Number(answer.headers.get("Retry-After")) || 0);
  }

  /** @returns {Promise<any>} */
  async json(path, options) {
    try {
      return await (await this.send(path, options)).json();
    } catch (error) {
      if (error instanceof TypeError) throw new Unreachable(String(error)); // the connection broke
      throw error;
    }
  }

  session() {
    return this.json("annotate/session");
  }

  images(query) {
    return this.json(`annotate/images?${new URLSearchParams(query)}`);
  }

  neighbours(key, search, status) {
    return this.json(`annotate/neighbours?${new URLSearchParams({ key, search, status })}`);
  }

  image(key) {
    return this.json(`annotate/image?key=${encodeURIComponent(key)}`);
  }

  /**
   * @param {string} [crop]  "x,y,width,height" in pixels of the original
   * @returns {Promise<{blob: Blob, tag: string}>} the preview, and its ETag, which starts with the image's id
   */
  async preview(image, most, crop = "") {
    const which = image.key === null ? `id=${image.id}` : `key=${encodeURIComponent(image.key)}`;
    const answer = await this.send(`annotate/preview?${which}&max=${most}${crop && `&crop=${crop}`}`);
    return { blob: await answer.blob(), tag: answer.headers.get("ETag") ?? "" };
  }

  prefetch(keys) {
    return this.send("annotate/prefetch", { method: "POST", json: { keys } });
  }

  /** @param {boolean} last  the page is being closed: the request outlives it */
  save(key, entry, last = false) {
    const path = `annotate/entry?key=${encodeURIComponent(key)}`;
    return this.json(path, { method: "PUT", json: entry, keepalive: last });
  }

  masks(id, prompts, multimask = null) {
    const json = { prompts, multimask, format: "coco_rle" };
    return this.json(`images/${id}/masks`, { method: "POST", json });
  }

  /** What the pipeline's filters make of all masks of an image. */
  filters({ id, key }, prompts, masks) {
    return this.json("annotate/filters", { method: "POST", json: { id, key, prompts, masks } });
  }

  labels() {
    return this.json("annotate/labels");
  }

  renameLabel(label, renamed, merge) {
    return this.json("annotate/labels/rename", { method: "POST", json: { label, new: renamed, merge } });
  }

  undoRenaming() {
    return this.json("annotate/labels/undo", { method: "POST" });
  }

  quick(file) {
    const headers = { "X-Name": encodeURIComponent(file.name), "Content-Type": "application/octet-stream" };
    return this.json("annotate/quick", { method: "POST", body: file, headers });
  }

  /** @returns {Promise<Response>} */
  quickResult({ id, name }, prompts, format) {
    return this.send(`annotate/result?format=${format}`, { method: "POST", json: { id, name, prompts } });
  }

  /** @returns {Promise<Response>} */
  result(key, format) {
    return this.send(`annotate/result?key=${encodeURIComponent(key)}&format=${format}`);
  }
}

function isProblem(answer) {
  return (answer.headers.get("Content-Type") ?? "").startsWith("application/problem+json");
}

/** The token from the URL's fragment, which is never sent or logged; it is then removed from the URL. */
function takeToken() {
  const fragment = new URLSearchParams(location.hash.slice(1));
  const given = fragment.get("token");
  if (given !== null) {
    keep(sessionStorage, TOKEN, given);
    fragment.delete("token");
    const rest = fragment.toString();
    history.replaceState(null, "", location.pathname + location.search + (rest ? `#${rest}` : ""));
  }
  return given ?? kept(sessionStorage, TOKEN);
}

/**
 * Storage that the browser may forbid, or that may be full.
 * @param {Storage} storage
 * @returns {boolean} whether it was kept
 */
export function keep(storage, name, value) {
  try {
    if (value === null) storage.removeItem(name);
    else storage.setItem(name, value);
    return true;
  } catch {
    return false;
  }
}

/** @param {Storage} storage */
export function kept(storage, name) {
  try {
    return storage.getItem(name);
  } catch {
    return null;
  }
}
