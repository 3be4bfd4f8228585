import fc from 'fast-check';
import type { SeededRandom } from '../testkit/random.ts';
import { anyCharacter } from '../testkit/any-character.ts';

/** Texts that often break programs. */
const notorious = [
  ...['', ' ', '\0', '\r\n', '\u2028', '\u202e', '\ufeff', '\ufffd', 'e\u0301\u0301\u0301', '💥', 'שלום'],
  ...['\\ud800', '\\udc00\\ud800', '\\u0000', '{"__proto__":{"type":"ping"}}', '"type":"subscribe",'],
  ...[`'; DROP TABLE users; --`, `' OR '1'='1`, '${7*7}', '../../etc/passwd', '[[[[[[[[', '{"a":{"a":{"a":'],
  ...'__proto__ constructor toString hasOwnProperty "type":"ping", $1 %s%n %00 %c0%ae % %zz <script>'.split(
    ' ',
  ),
  ...'null true NaN Infinity -0 1e999 1e-999 9007199254740993 18446744073709551616 -9223372036854775809'.split(
    ' ',
  ),
  ...'0x10 " \\ | . , ; & = ? # // eyJ bearer. 👩‍👩‍👧‍👦'.split(' '),
  'Bearer ',
];
/** Truncated, overlong, surrogates, beyond the last code point, without a lead byte. */
export const invalidUtf8 = 'c3 e282 f09f92 c080 e08080 eda080 f4908080 ff 80 fe c0af'
  .split(' ')
  .map((hex) => Buffer.from(hex, 'hex'));

export const hostileText = fc.oneof(
  { arbitrary: fc.constantFrom(...notorious), weight: 4 },
  fc.string({ unit: anyCharacter, maxLength: 8 }),
);

const jsonKeys = ['type', 'project_id', 'env', 'env_id', 'cursor', 'token', 'source', 'feature'];
const jsonScalars = ['null', 'true', '{}', '[]', '""', '0', '-0', '-1', '0.1', '1e999', '9007199254740993'];

/** A text of JSON, most of it unexpected. */
export const hostileJson = fc.letrec<{ json: string }>((tie) => {
  const depthIdentifier = 'json';
  const text = hostileText.map((value) => JSON.stringify(value));
  const key = fc.oneof(fc.constantFrom(...jsonKeys.map((name) => `"${name}"`)), text);
  const member = fc.tuple(key, tie('json')).map((pair) => pair.join(':'));
  const scalar = fc.oneof(fc.constantFrom(...jsonScalars, '"\\ud800"', '"\\ud8ff"'), text);
  const array = fc.array(tie('json'), { maxLength: 3, depthIdentifier });
  const members = fc.array(member, { maxLength: 4, depthIdentifier });
  return {
    json: fc.oneof(
      { maxDepth: 4, depthIdentifier },
      scalar,
      array.map((items) => `[${items.join(',')}]`),
      members.map((pairs) => `{${pairs.join(',')}}`),
    ),
  };
}).json;

/** What remains before and between two places and after them, and what is inserted. */
type Edit = (head: Buffer, middle: Buffer, tail: Buffer, inserted: Buffer) => readonly Uint8Array[];

const edits: readonly Edit[] = [
  (head, middle, tail) => [head, middle.map((byte, at) => (at === 0 ? byte ^ 4 : byte)), tail],
  (head, _middle, tail) => [head, tail],
  // Duplicates a part: keys, separators, whole objects.
  (head, middle, tail) => [head, middle, middle, tail],
  (head) => [head],
  (head, _middle, tail, inserted) => [head, inserted, tail],
  (head, middle, tail, inserted) => [head, inserted, middle, tail],
  (head, middle, tail) => [head, ...Array.from({ length: 9 }, () => middle), tail],
];
/** One in 2,000 edits. */
const enlarge: Edit = (head, middle) => [head, Buffer.alloc(65_536, middle.toString('latin1'), 'latin1')];

/** One of the valid inputs with one to four edits. */
export function mutated(corpus: readonly Buffer[]): fc.Arbitrary<Buffer> {
  const inserted = fc.oneof(
    hostileText.map((text) => Buffer.from(text)),
    fc.constantFrom(...invalidUtf8, ...corpus),
    fc.uint8Array({ minLength: 1, maxLength: 8 }).map((bytes) => Buffer.from(bytes)),
  );
  const edit = fc.oneof(
    { arbitrary: fc.constantFrom(...edits), weight: 2_000 },
    { arbitrary: fc.constant(enlarge), weight: 1 },
  );
  const place = fc.nat({ max: 0xffff });
  const steps = fc.array(fc.tuple(edit, place, place, inserted), { minLength: 1, maxLength: 4 });
  return fc.tuple(fc.constantFrom(...corpus), steps).map(([valid, applied]) =>
    applied.reduce((bytes, [apply, one, other, piece]) => {
      const [from, to] = [one % (bytes.length + 1), other % (bytes.length + 1)].sort((a, b) => a - b);
      return Buffer.concat(
        apply(bytes.subarray(0, from), bytes.subarray(from, to), bytes.subarray(to), piece),
      );
    }, valid),
  );
}

/** A value of the arbitrary; the same for the same state of `random`. */
export function drawn<Value>(random: SeededRandom, arbitrary: fc.Arbitrary<Value>): Value {
  return fc.sample(arbitrary, { seed: random.number() | 0, numRuns: 1 })[0] as Value;
}
