/** @import { Mutation } from './table.js' */

const server = 'packages/server/src/';
const test = 'packages/server/test/';

/** @type {readonly Mutation[]} */
export const accessMutations = [
  {
    name: 'origin-unchecked',
    broken: 'Pages of any origin may connect.',
    edits: [
      {
        file: `${server}auth/request-authorizer.ts`,
        find: 'if (this.#options.originPolicy.isAllowed(request)) return;',
        replace: 'if (this.#options.originPolicy.isAllowed(request) || request.url !== undefined) return;',
      },
    ],
    tests: [`${test}isolation.test.ts`],
  },
  {
    name: 'cors-for-any-origin',
    broken: 'Pages of any origin may read responses.',
    edits: [
      {
        file: `${server}auth/origin-policy.ts`,
        find: 'return isListed(header, parseOrigin(header)) ? header : null;',
        replace: "return isListed(header, parseOrigin(header)) || header !== '' ? header : null;",
      },
    ],
    tests: [`${test}cross-origin.test.ts`],
  },
  {
    name: 'embedding-allowed',
    broken: 'Requests embedded in pages of other origins are answered.',
    edits: [
      {
        file: `${server}auth/origin-policy.ts`,
        find: 'if (header === undefined) return !isEmbeddedElsewhere(headers);',
        replace: "if (header === undefined) return headers.host !== '' || !isEmbeddedElsewhere(headers);",
      },
    ],
    tests: [`${test}http-hostile.test.ts`],
  },
  {
    name: 'channels-unauthorized',
    guarantee: 'G3',
    broken: 'Every user may open every channel.',
    edits: [
      {
        file: `${server}auth/table-authorization.ts`,
        find: "if (!answer.allowed) return 'forbidden';",
        replace: "if (!answer.allowed && userId === '') return 'forbidden';",
      },
    ],
    tests: [`${test}isolation.test.ts`],
  },
  {
    name: 'writes-unauthorized',
    broken: 'Every user may change every feature.',
    edits: [
      {
        file: `${server}api/writes/feature-writes.ts`,
        find: '  rights.require(projectId, ...anyOf);\n',
        replace: '  if (anyOf.length === 0) rights.require(projectId, ...anyOf);\n',
      },
    ],
    tests: [`${test}authorization-matrix.test.ts`],
  },
  {
    name: 'token-expiry-ignored',
    guarantee: 'G9',
    broken: 'A connection outlives its token.',
    edits: [
      {
        file: `${server}connections/connection-monitor.ts`,
        find: 'if (principal.expiresAtMs <= nowMs)',
        replace: 'if (principal.expiresAtMs < 0)',
      },
    ],
    tests: [`${test}connection-monitor.test.ts`],
  },
  {
    name: 'revocation-ignored',
    guarantee: 'G9',
    broken: 'A connection outlives the right to its channel.',
    edits: [
      {
        file: `${server}connections/connection-monitor.ts`,
        find: 'return allowed.has(key) || !viewers.has(key);',
        replace: 'return allowed.has(key) || viewers.has(key);',
      },
    ],
    tests: [`${test}connection-monitor.test.ts`],
  },
  {
    name: 'refresh-token-accepted',
    broken: 'A refresh token is accepted as an access token.',
    edits: [
      {
        file: `${server}auth/token-verifier.ts`,
        find: "(type === undefined || type === 'access') &&",
        replace: "(type !== 'nothing') &&",
      },
    ],
    tests: [`${test}unit/token.test.ts`],
  },
  {
    name: 'query-token-accepted',
    broken: 'A token in the query string is accepted although it is not allowed.',
    edits: [
      {
        file: `${server}auth/request-token.ts`,
        find: 'if (options.allowQueryToken) {',
        replace: "if (options.allowQueryToken || request.url !== '') {",
      },
    ],
    tests: [`${test}isolation.test.ts`],
  },
  {
    name: 'connections-unlimited',
    broken: 'The number of connections of a user and of an address is unlimited.',
    edits: [
      {
        file: `${server}connections/connection-limits.ts`,
        find: '    this.#users.add(userId, 1);\n',
        replace: '',
      },
    ],
    tests: [`${test}unit/connection-limits.test.ts`],
  },
  {
    name: 'messages-unlimited',
    broken: 'A client may send any number of messages.',
    edits: [
      {
        file: `${server}transport/web-socket-connection.ts`,
        find: 'if (this.#messageRate.count <= maxMessages) return true;',
        replace: 'if (this.#messageRate.count <= maxMessages * 1e6) return true;',
      },
    ],
    tests: [`${test}plain-dialect.test.ts`],
  },
  {
    name: 'sign-ins-unlimited',
    broken: 'The number of failed sign-ins is unlimited.',
    edits: [
      {
        file: `${server}auth/sign-in-attempts.ts`,
        find: 'if (waitMs > 0) {',
        replace: 'if (waitMs < 0) {',
      },
    ],
    tests: [`${test}rest-sign-in.test.ts`],
  },
  {
    name: 'authorize-query-writes',
    broken: "The host's authorization query may write.",
    edits: [
      {
        file: `${server}auth/callback-authorization.ts`,
        find: "await client.query('BEGIN READ ONLY');",
        replace: "await client.query('BEGIN');",
      },
    ],
    tests: [`${test}authorize-query.test.ts`],
  },
  {
    name: 'stale-write-accepted',
    broken: 'A write based on an old version overwrites a concurrent change.',
    edits: [
      {
        file: `${server}api/writes/feature.ts`,
        find: 'if (current.version === version) return;',
        replace: "if (current.version === version || version !== '') return;",
      },
    ],
    tests: [`${test}rest-writes.test.ts`],
  },
  {
    name: 'partial-write-committed',
    broken: 'A refused request commits its changes.',
    edits: [
      {
        file: `${server}postgres/transaction.ts`,
        find: "await client.query('ROLLBACK')",
        replace: "await client.query('COMMIT')",
      },
    ],
    tests: [`${test}rest-requests.test.ts`],
  },
  {
    name: 'self-approval',
    broken: 'A user may approve their own request.',
    edits: [
      {
        file: `${server}api/writes/decisions.ts`,
        find: '  if (request.own) {\n',
        replace: "  if (request.own && rights.userId === '') {\n",
      },
    ],
    tests: [`${test}rest-approvals.test.ts`],
  },
];
