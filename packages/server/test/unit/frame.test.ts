import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import * as ws from 'ws';
import { textFrame } from '../../src/connections/codecs/frame.js';
import { answerPlain } from '../../src/connections/codecs/plain.js';
import { anyCharacter } from '../../../../testing/testkit/any-character.ts';

/** What reads frames in every client of the library; its types do not have it. */
interface FrameReceiver {
  on(name: 'message', listener: (data: Buffer, isBinary: boolean) => void): void;
  on(name: 'error', listener: (error: Error) => void): void;
  write(bytes: Buffer): void;
}
const { Receiver } = ws as unknown as { Receiver: new (options: { isServer: boolean }) => FrameReceiver };

/** The texts that the ws library reads from the bytes if they arrive in segments of these lengths. */
function received(bytes: Buffer, pieces: readonly number[]): string[] {
  const receiver = new Receiver({ isServer: false });
  const texts: string[] = [];
  receiver.on('message', (data, isBinary) => {
    expect(isBinary).toBe(false);
    texts.push(data.toString('utf8'));
  });
  receiver.on('error', (error) => {
    throw error;
  });
  let at = 0;
  for (const length of pieces) {
    receiver.write(bytes.subarray(at, at + length));
    at += length;
  }
  receiver.write(bytes.subarray(at));
  return texts;
}

describe('textFrame', () => {
  const borders = [0, 1, 125, 126, 127, 65_534, 65_535, 65_536, 65_537];
  const texts = fc.oneof(
    fc.string({ unit: anyCharacter }),
    fc.constantFrom(...borders).map((length) => 'x'.repeat(length)),
    // More bytes than characters.
    fc
      .tuple(fc.constantFrom(31, 32, 16_383, 16_384), fc.nat(3))
      .map(([count, more]) => '💥'.repeat(count) + 'x'.repeat(more)),
  );

  it('encodes any texts, in any segments of the network', () => {
    fc.assert(
      fc.property(
        fc.array(texts, { maxLength: 4 }),
        fc.array(fc.nat(200), { maxLength: 6 }),
        (all, pieces) => {
          expect(received(Buffer.concat(all.map(textFrame)), pieces)).toStrictEqual(all);
        },
      ),
      { numRuns: 100 },
    );
  });

  it('replaces lone surrogates', () => {
    expect(received(textFrame('a\ud800b'), [])).toStrictEqual(['a\ufffdb']);
  });
});

describe("a plain client's message", () => {
  const object = fc.record({ type: fc.oneof(fc.constant('ping'), fc.jsonValue()), more: fc.jsonValue() });
  const bytes = fc.oneof(
    fc.uint8Array({ maxLength: 100 }).map((all) => Buffer.from(all)),
    fc
      .oneof(
        fc.json(),
        object.map((each) => JSON.stringify(each)),
      )
      .map((text) => Buffer.from(text)),
  );

  it('G10: is answered with a pong if it is a ping, and otherwise ignored', () => {
    fc.assert(
      fc.property(bytes, (data) => {
        const answer = answerPlain(data);
        const isPing = /"type":"ping"/.test(data.toString('utf8'));
        if (answer === null) return;
        expect(isPing).toBe(true);
        expect(received(answer, [])).toStrictEqual([
          expect.stringMatching(/^\{"type":"pong","timestamp":\d+\}$/),
        ]);
      }),
      { numRuns: 500 },
    );
    expect(answerPlain(Buffer.from('{"more":[],"type":"ping"}'))).not.toBeNull();
  });
});
