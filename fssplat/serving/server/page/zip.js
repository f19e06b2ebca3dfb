// Write a ZIP archive of files that are compressed already.

const TABLE = Uint32Array.from({ length: 256 }, (_, number) => {
  let value = number;
  for (let bit = 0; bit < 8; bit++) value = value & 1 ? 0xedb88320 ^ (value >>> 1) : value >>> 1;
  return value >>> 0;
});

function crc32(bytes) {
  let value = 0xffffffff;
  for (const byte of bytes) value = TABLE[(value ^ byte) & 255] ^ (value >>> 8);
  return (value ^ 0xffffffff) >>> 0;
}

function numbers(...pairs) {
  const bytes = [];
  for (const [value, width] of pairs) for (let at = 0; at < width; at++) bytes.push((value >>> (8 * at)) & 255);
  return Uint8Array.from(bytes);
}

// files: [name, Uint8Array][] -> Blob
export function zipped(files) {
  const parts = [];
  const index = [];
  let offset = 0;
  for (const [name, bytes] of files) {
    const title = new TextEncoder().encode(name);
    const facts = [[20, 2], [0x800, 2], [0, 2], [0, 2], [0x21, 2], [crc32(bytes), 4], [bytes.length, 4], [bytes.length, 4], [title.length, 2]];
    const head = numbers([0x04034b50, 4], ...facts, [0, 2]);
    parts.push(head, title, bytes);
    index.push(numbers([0x02014b50, 4], [20, 2], ...facts, [0, 2], [0, 2], [0, 2], [0, 2], [0, 4], [offset, 4]), title);
    offset += head.length + title.length + bytes.length;
  }
  const size = index.reduce((sum, part) => sum + part.length, 0);
  const end = numbers([0x06054b50, 4], [0, 2], [0, 2], [files.length, 2], [files.length, 2], [size, 4], [offset, 4], [0, 2]);
  return new Blob([...parts, ...index, end], { type: "application/zip" });
}
