/**
 * The position of the image on the screen: screen = image * scale + offset.
 * The image is in pixels of the original, the screen in CSS pixels from the canvas's corner.
 */

/** @typedef {{scale: number, x: number, y: number}} View */
/** @typedef {{width: number, height: number}} Size */

/** CSS pixels for one pixel of the original, at most. */
const LARGEST = 40;

/**
 * The whole image, centered. Small images are enlarged, up to 16 times.
 * @param {Size} image
 * @param {Size} canvas
 * @param {number} [margin]
 * @returns {View}
 */
export function fitted(image, canvas, margin = 16) {
  const room = { width: Math.max(16, canvas.width - 2 * margin), height: Math.max(16, canvas.height - 2 * margin) };
  const scale = Math.min(room.width / image.width, room.height / image.height, 16);
  return { scale, x: (canvas.width - image.width * scale) / 2, y: (canvas.height - image.height * scale) / 2 };
}

/**
 * Zoom so that the image point under (x, y) stays in place.
 * @param {View} view
 * @param {number} factor
 * @param {number} x
 * @param {number} y
 * @param {number} smallest  scale
 * @returns {View}
 */
export function zoomed(view, factor, x, y, smallest) {
  const scale = Math.min(LARGEST, Math.max(smallest, view.scale * factor));
  const ratio = scale / view.scale;
  return { scale, x: x - (x - view.x) * ratio, y: y - (y - view.y) * ratio };
}

/**
 * The view moved so that part of the image stays visible.
 * @param {View} view
 * @param {Size} image
 * @param {Size} canvas
 * @returns {View}
 */
export function held(view, image, canvas) {
  const keep = 48;
  const hold = (offset, length, room) => Math.min(room - keep, Math.max(keep - length, offset));
  return {
    scale: view.scale,
    x: hold(view.x, image.width * view.scale, canvas.width),
    y: hold(view.y, image.height * view.scale, canvas.height),
  };
}

/**
 * @param {View} view
 * @param {number} x  on the screen
 * @param {number} y
 * @returns {[number, number]} in the picture, also outside its edges
 */
export function toImage(view, x, y) {
  return [(x - view.x) / view.scale, (y - view.y) / view.scale];
}

/**
 * @param {View} view
 * @param {number} x  in the picture
 * @param {number} y
 * @returns {[number, number]} on the screen
 */
export function toScreen(view, x, y) {
  return [x * view.scale + view.x, y * view.scale + view.y];
}
