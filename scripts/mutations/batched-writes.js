/** @import { Mutation } from './table.js' */

const server = 'packages/server/src/';
const ioUring = 'packages/io-uring/src/';
const tests = ['packages/server/test/socket-writer.test.ts'];

/** @type {readonly Mutation[]} */
export const batchedWriteMutations = [
  {
    name: 'short-write-ignored',
    guarantee: 'G1',
    broken: 'The rest of a short write is lost.',
    edits: [
      {
        file: `${ioUring}batched-socket-writer.ts`,
        find: 'else if (accepted < bytes.length) remainders.push',
        replace: 'else if (accepted > bytes.length) remainders.push',
      },
    ],
    tests,
  },
  {
    name: 'descriptor-reused',
    guarantee: 'G3',
    broken: 'Data for a closed connection is sent to the connection that reuses its file descriptor.',
    edits: [
      {
        file: `${server}transport/web-socket-connection.ts`,
        find: 'return handle === this.#handle ?',
        replace: 'return handle !== undefined ?',
      },
    ],
    tests,
  },
  {
    name: 'batched-write-overtakes',
    guarantee: 'G1',
    broken: 'A batched write overtakes data that waits in the socket.',
    edits: [
      {
        file: `${server}transport/web-socket-connection.ts`,
        find: 'if (this.#socket.writableLength > 0) return null;',
        replace: 'if (this.#socket.writableLength < 0) return null;',
      },
    ],
    tests,
  },
  {
    name: 'batched-write-bypasses-tls',
    guarantee: 'G10',
    broken: 'A batched write bypasses TLS.',
    edits: [
      {
        file: `${server}transport/socket-writer.ts`,
        find: 'Object.getPrototypeOf(socket) !== Socket.prototype',
        replace: '!(socket instanceof Socket)',
      },
      {
        file: `${server}transport/socket-writer.ts`,
        find: "handle?.constructor.name === 'TCP' && handle.fd >= 0",
        replace: 'handle !== null && handle.fd >= 0',
      },
    ],
    tests,
  },
];
