// The service's API. What it refuses is a Failure, whose message is meant for the user.

const TRIES = 4;

export class Failure extends Error {
  constructor(message, status = 0) {
    super(message);
    this.status = status;
  }
}

const wait = (seconds) => new Promise((done) => setTimeout(done, 1000 * seconds));

async function call(path, options = {}) {
  for (let left = TRIES; ; left -= 1) {
    let response;
    try {
      response = await fetch(path, options);
    } catch (error) {
      if (error.name === "AbortError") throw error;
      throw new Failure("The service cannot be reached.");
    }
    if (response.ok) return response.json();
    if (response.status === 503 && left > 1) {
      await wait(Number(response.headers.get("Retry-After")) || 1);
      options.signal?.throwIfAborted();
      continue;
    }
    const said = await response.json().catch(() => ({}));
    throw new Failure(said.detail ?? `The service failed (${response.status}).`, response.status);
  }
}

function post(path, value, more = {}) {
  const headers = { "Content-Type": "application/json", ...more.headers };
  return call(path, { ...more, method: "POST", headers, body: JSON.stringify(value) });
}

export const index = () => call("/api/index");
export const search = (query, signal) => post("/api/search", query, { signal });
export const imageUrl = (id) => `/api/image?id=${encodeURIComponent(id)}`;
export const uploaded = (id) => `/api/uploads/${encodeURIComponent(id)}`;

export function upload(blob, signal) {
  // A type that the browser does not know is for the service to judge.
  const type = blob.type || "image/unknown";
  return call("/api/uploads", {
    method: "POST",
    headers: { "Content-Type": type },
    body: blob,
    signal,
  });
}

export function answer(reference, target, caption, accepted, token) {
  const headers = token ? { Authorization: `Bearer ${token}` } : {};
  return post("/api/feedback", { reference, target, caption, accepted }, { headers });
}
