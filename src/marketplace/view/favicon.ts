/**
 * The icon in the browser's tab: a closed book, as on the shop's sign.
 */

const pattern = [
  "................",
  "..dcccccccccccc.",
  ".ddcccccccccccc.",
  ".ddccffffffffcc.",
  ".ddccffffffffcc.",
  ".ddcccccccccccc.",
  ".ddcccccccccccc.",
  ".ddcccccccccccc.",
  ".ddcccccccccccc.",
  ".ddcccccccccccc.",
  ".ddcccccccccccc.",
  ".ddcccccccccccc.",
  ".dpppppppppppp..",
  ".dpppppppppppp..",
  "..dcccccccccccc.",
  "................"
]

/** Transparent, the spine, the cloth, the gilt label and the edge of the paper; as 0xRRGGBB. */
const palette: ReadonlyArray<readonly [character: string, colour: number]> = [
  [".", 0x000000],
  ["d", 0x5e1a10],
  ["c", 0xa8382a],
  ["f", 0xf0cf98],
  ["p", 0xf8f2e6]
]

const headerBytes = 40
const paletteBytes = 16 * 4
const imageBytes = (size: number): number => headerBytes + paletteBytes + (size * size) / 2 + size * 4

/** The picture as icons have it: a BMP of 16 colours without its file header, then a mask of what is transparent. */
const image = (size: number): Uint8Array => {
  const view = new DataView(new ArrayBuffer(imageBytes(size)))
  view.setUint32(0, headerBytes, true)
  view.setInt32(4, size, true)
  // The height counts the mask as well.
  view.setInt32(8, size * 2, true)
  view.setUint16(12, 1, true)
  view.setUint16(14, 4, true)
  palette.forEach(([, colour], index) => view.setUint32(headerBytes + index * 4, colour, true))
  const pixels = headerBytes + paletteBytes
  const mask = pixels + (size * size) / 2
  for (let y = 0; y < size; y++) {
    // Rows go from the bottom to the top.
    const row = pattern[Math.floor(((size - 1 - y) * pattern.length) / size)] ?? ""
    for (let x = 0; x < size; x++) {
      const character = row[Math.floor((x * pattern.length) / size)]
      const colour = palette.findIndex(([name]) => name === character)
      const pixel = pixels + (y * size + x) / 2
      // Two pixels share a byte of the picture, eight a byte of the mask; the leftmost is in the highest bits.
      if (x % 2 === 0) view.setUint8(pixel, colour << 4)
      else view.setUint8(Math.floor(pixel), view.getUint8(Math.floor(pixel)) | colour)
      // A row of the mask takes a multiple of four bytes.
      const masked = mask + y * 4 + (x >> 3)
      if (colour === 0) view.setUint8(masked, view.getUint8(masked) | (0x80 >> (x % 8)))
    }
  }
  return new Uint8Array(view.buffer)
}

const sizes = [16, 32]

/** The icon as an ICO file with one picture for common screens and one for dense ones, about 1 KB. */
export const favicon: Uint8Array = (() => {
  const view = new DataView(new ArrayBuffer(6 + sizes.length * 16))
  view.setUint16(2, 1, true)
  view.setUint16(4, sizes.length, true)
  let offset = view.byteLength
  sizes.forEach((size, index) => {
    const entry = 6 + index * 16
    view.setUint8(entry, size)
    view.setUint8(entry + 1, size)
    view.setUint8(entry + 2, 16)
    view.setUint16(entry + 4, 1, true)
    view.setUint16(entry + 6, 4, true)
    view.setUint32(entry + 8, imageBytes(size), true)
    view.setUint32(entry + 12, offset, true)
    offset += imageBytes(size)
  })
  return Uint8Array.from([view, ...sizes.map(image)].flatMap((part) => Array.from(new Uint8Array(part.buffer))))
})()
