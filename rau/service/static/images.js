// Images of the user's own on their way to the service.

import { Failure, upload } from "./api.js";

// As /api/uploads takes them.
const MOST_BYTES = 20 * 2 ** 20;
// Longer sides are scaled down to this: more than any encoder sees.
const LONGEST = 2048;
// What was sent, by its id: the service forgets images in time.
const sent = new Map();

// A photo of a phone is sent small and upright; others as they are, to the last bit.
async function prepared(blob) {
  const bitmap = await createImageBitmap(blob).catch(() => null);
  const scale = bitmap ? LONGEST / Math.max(bitmap.width, bitmap.height) : 1;
  if (scale >= 1) return blob;
  const canvas = document.createElement("canvas");
  canvas.width = Math.round(bitmap.width * scale);
  canvas.height = Math.round(bitmap.height * scale);
  const context = canvas.getContext("2d");
  context.imageSmoothingQuality = "high";
  context.drawImage(bitmap, 0, 0, canvas.width, canvas.height);
  return new Promise((done) => canvas.toBlob((made) => done(made ?? blob), "image/jpeg", 0.95));
}

// Sends an image; the id that it is held under.
export async function send(blob, signal) {
  if (blob.type && !blob.type.startsWith("image/")) throw new Failure("This is not an image.");
  const ready = await prepared(blob);
  if (ready.size > MOST_BYTES) throw new Failure("This image is larger than 20 MiB.");
  const { id } = await upload(ready, signal);
  sent.set(id, ready);
  return id;
}

// Sends one again that the service has dropped; false where this page does not have it either.
export async function again(id, signal) {
  const blob = sent.get(id);
  if (!blob) return false;
  await upload(blob, signal);
  return true;
}
