import { readdirSync, readFileSync } from 'node:fs';
import {
  CloseCode,
  isReconnectCode as isReconnectCodeOfProtocol,
  subprotocol as protocolName,
} from '#protocol';
import { transform } from 'esbuild';
import { expect, it } from 'vitest';
import { isReconnectCode, subprotocol } from '../../src/wire.js';

const folder = new URL('../../src/', import.meta.url);
const files = readdirSync(folder, { recursive: true, encoding: 'utf8' }).filter((file) =>
  /\.tsx?$/.test(file),
);

it.each(files)('%s can be loaded by a page without a bundler, except for its peers', async (file) => {
  const { code } = await transform(readFileSync(new URL(file, folder), 'utf8'), {
    ...{ loader: file.endsWith('x') ? 'tsx' : 'ts', jsx: 'automatic', format: 'esm' },
    tsconfigRaw: { compilerOptions: { verbatimModuleSyntax: true } },
  });
  const imports = [...code.matchAll(/(?:from |import )"([^"]+)"/g)].map(([, name]) => name);
  const allowed = /\breact\b/.test(file) ? /^\.|^react/ : /^\./;
  expect(imports.filter((name) => !allowed.test(name ?? ''))).toEqual([]);
});

it('the repeated values are those of the protocol', () => {
  expect(subprotocol).toBe(protocolName);
  for (const code of [...Object.values(CloseCode), 0, 1006, 4499, 4500, 4999, 5000]) {
    expect(isReconnectCode(code)).toBe(isReconnectCodeOfProtocol(code));
  }
});
