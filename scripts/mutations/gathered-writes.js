/** @import { Mutation } from './table.js' */

const server = 'packages/server/src/';
const test = 'packages/server/test/';

/** @type {readonly Mutation[]} */
export const ofGatheredWrites = [
  {
    name: 'rest-forgotten',
    guarantee: 'G1',
    broken: 'What the network did not take of what is written to many together is lost.',
    edits: [
      {
        file: `${server}door/gathered-writes.ts`,
        find: 'else if (taken < bytes.length) rests.push',
        replace: 'else if (taken > bytes.length) rests.push',
      },
    ],
    tests: [`${test}gathered-writes.test.ts`],
  },
  {
    name: 'descriptor-kept',
    guarantee: 'G3',
    broken: 'What is for a connection that was closed goes to the one that has its descriptor now.',
    edits: [
      {
        file: `${server}door/socket-peer.ts`,
        find: '._handle === this.#handle',
        replace: '._handle !== undefined',
      },
    ],
    tests: [`${test}gathered-writes.test.ts`],
  },
  {
    name: 'past-what-waits',
    guarantee: 'G1',
    broken: 'What is written to many together overtakes what still waits in a socket.',
    edits: [
      {
        file: `${server}door/socket-peer.ts`,
        find: 'if (this.#socket.writableLength > 0) return null;',
        replace: 'if (this.#socket.writableLength < 0) return null;',
      },
    ],
    tests: [`${test}gathered-writes.test.ts`],
  },
  {
    name: 'past-tls',
    guarantee: 'G10',
    broken: 'What is written to many together goes past TLS as well.',
    edits: [
      {
        file: `${server}door/gathered-writes.ts`,
        find: 'Object.getPrototypeOf(socket) !== Socket.prototype',
        replace: '!(socket instanceof Socket)',
      },
      {
        file: `${server}door/gathered-writes.ts`,
        find: "handle?.constructor.name === 'TCP' && handle.fd >= 0",
        replace: 'handle !== null && handle.fd >= 0',
      },
    ],
    tests: [`${test}gathered-writes.test.ts`],
  },
];
