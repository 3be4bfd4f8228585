import { expect, it } from 'vitest';
import { startDemo } from '../../demo/src/demo.js';
import { install } from '../src/install/install.js';
import { createTestDatabase } from './database.js';
import { installOld } from './install-0.1.js';

it('a folder of the demo that this version cannot use is named, with what to do', async () => {
  const database = await createTestDatabase({ schema: 'none' });
  const dataDir = '/data/of the demo';
  let isStopped = false;
  try {
    await installOld(database.pool, { mode: 'tables' });
    await database.pool.query('CREATE VIEW public.report AS SELECT source FROM flagcast.v_realtime_events');
    const starting = startDemo(
      {
        ...{ dataDir, copyDir: '/data', logger: () => undefined },
        install: async (client) => await install(client, { tables: true }),
      },
      async () =>
        await Promise.resolve({
          ...{ dataDir, port: 5432, pid: null, url: () => database.url },
          stop: async () => {
            isStopped = true;
            await Promise.resolve();
          },
          restart: async () => await Promise.resolve(),
        }),
    );
    await expect(starting).rejects.toThrow(
      /^The data of the demo in \/data\/of the demo does not fit this version of Flagcast\. Delete that folder, or set FLAGCAST_DATA_DIR to another one\. Nothing was changed/,
    );
    expect(isStopped).toBe(true);
  } finally {
    await database.drop();
  }
});
