// @vitest-environment happy-dom
import { act, type ReactNode } from 'react';
import { createRoot } from 'react-dom/client';
import { describe, expect, it } from 'vitest';
import { type Approvals, approvals } from '../../src/approvals/index.js';
import { FlagcastProvider, useApprovals, useClientStatus, useFlag } from '../../src/react/index.js';
import { caughtUp, step } from './scripted-server.js';
import { startFixture, until } from './client-fixture.js';
import { useReactPage } from './react-page.js';

const page = useReactPage();

describe('useClientStatus and useFlag', () => {
  it('show why the client is not connected, and a flag by its key', async () => {
    const { server, connect } = await startFixture();
    const client = connect();
    const Status = (): ReactNode => {
      const { state, lastError } = useClientStatus(client);
      return `${useFlag('key-f1')?.name ?? 'none'}: ${state} ${lastError?.code ?? ''}`;
    };
    page.root = createRoot(page.container);
    act(() =>
      page.root?.render(
        <FlagcastProvider client={client} projectId="p1" env="prod">
          <Status />
        </FlagcastProvider>,
      ),
    );
    expect(page.container.textContent).toContain('none: ');
    await act(async () => {
      const connection = await server.connections.next();
      await connection.accept('c1');
      await until(
        { subscribe: client.subscribe, getState: client.getStatus },
        ({ state }) => state === 'live',
      );
      connection.socket.close(4005, 'unavailable');
      await (await server.connections.next()).accept('c1');
      await until(
        { subscribe: client.subscribe, getState: client.getStatus },
        ({ state }) => state === 'live',
      );
    });
    expect(page.container.textContent).toBe('Feature f1: live unavailable');
  });
});

describe('useApprovals', () => {
  it('renders again only when the selected part of the feed changes', async () => {
    const { server, connect } = await startFixture();
    const feed = { feed: 'approvals' } as const;
    const opened = approvals(connect());
    const connection = await server.connections.next();
    connection.hello();
    await connection.received.next();
    connection.send(caughtUp('c1', feed));
    await until(opened, ({ status }) => status.state === 'live');
    const renderings: string[][] = [];
    const States = ({ of }: { of: Approvals | null }): ReactNode => useApprovals(of).status.state;
    const OpenIds = (): ReactNode => {
      renderings.push(useApprovals(opened, ({ open }) => [...open.keys()]));
      return null;
    };
    page.root = createRoot(page.container);
    await act(async () => {
      page.root?.render([<States key="1" of={null} />, <States key="2" of={opened} />, <OpenIds key="3" />]);
      await Promise.resolve();
    });
    expect(page.container.textContent).toBe('connectinglive');
    const send = async (
      id: string,
      ...[change, action]: ['r1' | 'r2', 'pending' | 'updated']
    ): Promise<void> => {
      await act(async () => {
        connection.send({ ...step(id, change, action, 'f1'), ...feed });
        await until(opened, ({ lastEvent }) => lastEvent?.id === id);
      });
    };
    await send('e1', 'r2', 'pending');
    await send('e2', 'r1', 'updated');
    expect(renderings).toEqual([['r1'], ['r1', 'r2']]);
  });
});
