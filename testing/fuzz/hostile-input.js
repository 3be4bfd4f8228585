/** @import { SeededRandom } from '../testkit/random.ts' */

/** Texts that often break programs; they are inserted into valid inputs. */
const hostileTexts = [
  '',
  '\0',
  '\r\n',
  '\u2028',
  '\u202e',
  '\ufeff',
  '\ufffd',
  'e\u0301\u0301\u0301',
  '💥',
  '👩‍👩‍👧‍👦',
  'שלום',
  '\\ud800',
  '\\udc00\\ud800',
  '\\u0000',
  '__proto__',
  'constructor',
  'toString',
  'hasOwnProperty',
  '{"__proto__":{"type":"ping"}}',
  '"type":"subscribe",',
  '"type":"ping",',
  `'; DROP TABLE users; --`,
  `' OR '1'='1`,
  '$1',
  '%s%n',
  '%00',
  '%c0%ae',
  '%',
  '%zz',
  '../../etc/passwd',
  '${7*7}',
  '<script>',
  'null',
  'true',
  'NaN',
  'Infinity',
  '-0',
  '1e999',
  '1e-999',
  '9007199254740993',
  '18446744073709551616',
  '-9223372036854775809',
  '0x10',
  '[[[[[[[[',
  '{"a":{"a":{"a":',
  '"',
  '\\',
  '|',
  '.',
  ',',
  ';',
  '&',
  '=',
  '?',
  '#',
  '//',
  'eyJ',
  'bearer.',
  'Bearer ',
  ' ',
];

const hostileBytes = hostileTexts.map((text) => Buffer.from(text));
/** Invalid UTF-8: truncated, overlong, surrogates, beyond the last code point, without a lead byte. */
const invalidUtf8 = ['c3', 'e282', 'f09f92', 'c080', 'e08080', 'eda080', 'f4908080', 'ff', '80', 'fe'].map(
  (hex) => Buffer.from(hex, 'hex'),
);

/** @param {SeededRandom} random */
export function hostileText(random) {
  return random.pick(hostileTexts);
}

/**
 * Mutates a valid input in one to four places. Most results are short; about one in 4,096 has up to 64 kB.
 *
 * @param {SeededRandom} random
 * @param {readonly Buffer[]} corpus valid inputs of the same kind
 * @returns {Buffer}
 */
export function mutate(random, corpus) {
  let bytes = random.pick(corpus);
  for (let times = 1 + random.below(4); times > 0; times -= 1) bytes = mutateOnce(random, bytes, corpus);
  return bytes;
}

/**
 * @param {SeededRandom} random
 * @param {Buffer} bytes
 * @param {readonly Buffer[]} corpus
 */
function mutateOnce(random, bytes, corpus) {
  const at = random.below(bytes.length + 1);
  const to = at + random.below(bytes.length - at + 1);
  switch (random.below(10)) {
    case 0: {
      if (bytes.length === 0) return bytes;
      const flipped = Buffer.from(bytes);
      const index = Math.min(at, bytes.length - 1);
      flipped[index] = (flipped[index] ?? 0) ^ (1 << random.below(8));
      return flipped;
    }
    case 1:
      return Buffer.concat([bytes.subarray(0, at), bytes.subarray(to)]);
    case 2:
      // Duplicates a part: keys, separators, whole objects.
      return Buffer.concat([bytes.subarray(0, to), bytes.subarray(at)]);
    case 3: {
      const other = random.pick(corpus);
      return Buffer.concat([bytes.subarray(0, at), other.subarray(random.below(other.length + 1))]);
    }
    case 4:
      return bytes.subarray(0, at);
    case 5:
      return Buffer.concat([bytes.subarray(0, at), random.bytes(1 + random.below(8)), bytes.subarray(to)]);
    case 6:
      return Buffer.concat([bytes.subarray(0, at), random.pick(invalidUtf8), bytes.subarray(at)]);
    case 7: {
      const piece = bytes.subarray(at, Math.min(to, at + 16));
      const most = random.oneIn(1_024) ? 65_536 : 64;
      const times = 1 + random.below(Math.max(1, Math.floor(most / Math.max(1, piece.length))));
      return Buffer.concat([
        bytes.subarray(0, at),
        ...Array.from({ length: times }, () => piece),
        bytes.subarray(at),
      ]);
    }
    default:
      return Buffer.concat([bytes.subarray(0, at), random.pick(hostileBytes), bytes.subarray(to)]);
  }
}

/**
 * Returns random JSON.
 *
 * @param {SeededRandom} random
 * @param {number} [depth] maximum remaining depth
 * @returns {string}
 */
export function randomJson(random, depth = 4) {
  switch (random.below(depth > 0 ? 8 : 5)) {
    case 0:
      return random.pick(['null', 'true', 'false', '{}', '[]', '""']);
    case 1:
      return random.pick([
        '0',
        '-0',
        '1e999',
        '-1',
        '9007199254740993',
        '0.1',
        '1E400',
        String(random.number()),
      ]);
    case 2:
    case 3:
      return JSON.stringify(hostileText(random));
    case 4:
      return `"\\ud8${random.pick(['00', '3d', 'ff'])}"`;
    case 5:
      return `[${Array.from({ length: random.below(4) }, () => randomJson(random, depth - 1)).join(',')}]`;
    default: {
      const members = Array.from({ length: random.below(5) }, () => {
        const key = random.oneIn(2)
          ? random.pick(['type', 'project_id', 'env', 'env_id', 'cursor', 'token', 'source', 'feature'])
          : hostileText(random);
        return `${JSON.stringify(key)}:${randomJson(random, depth - 1)}`;
      });
      return `{${members.join(',')}}`;
    }
  }
}
