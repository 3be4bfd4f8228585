import { Drawer, Stack, Table, Text, Title } from '@mantine/core';
import { useSyncExternalStore } from 'react';
import { selectStatus, useChannelState, useLiveChannel } from '../api/live.js';
import { useSignInMode } from '../api/queries.js';
import { useTexts } from '../texts/texts.js';
import { DeliveryPlot } from './delivery-plot.js';
import { DeliveryTable } from './delivery-table.js';
import { describeStatus } from './freshness-chip.js';

/** Where the screen's state comes from, how old it is, and how recent events came here. */
export default function FreshnessDrawer({ onClose }: { readonly onClose: () => void }) {
  const texts = useTexts();
  const { t, format } = texts;
  const status = useChannelState(selectStatus);
  const lagMs = useChannelState((state) => state.lagMs);
  const { deliveries } = useLiveChannel();
  const { recent, reconnects } = useSyncExternalStore(deliveries.subscribe, deliveries.getView);
  const { data: mode } = useSignInMode();
  const asOf =
    status.state === 'stale'
      ? format.time(status.sinceMs)
      : status.state === 'live'
        ? t.freshness.now
        : t.freshness.notYet;
  const facts: [string, string][] = [
    [t.freshness.state, describeStatus(status, texts)],
    [t.freshness.trueAsOf, asOf],
    [
      t.freshness.lag,
      lagMs === null ? t.freshness.noEvent : t.freshness.ms(format.number(Math.max(0, lagMs))),
    ],
    [t.freshness.reconnects, format.number(reconnects)],
    [t.freshness.guarantee, mode?.guarantee === 'overlap' ? t.freshness.overlap : t.freshness.exact],
    [t.freshness.server, mode?.server ?? '…'],
  ];
  return (
    <Drawer
      opened
      onClose={onClose}
      position="right"
      size="lg"
      title={<Text fw={650}>{t.freshness.title}</Text>}
      closeButtonProps={{ 'aria-label': t.shell.close }}
    >
      <Stack>
        <Table variant="vertical" layout="fixed" withTableBorder>
          <Table.Tbody>
            {facts.map(([name, value]) => (
              <Table.Tr key={name}>
                <Table.Th w={170}>{name}</Table.Th>
                <Table.Td className="fc-wrap">{value}</Table.Td>
              </Table.Tr>
            ))}
          </Table.Tbody>
        </Table>
        <Title order={2}>{t.freshness.trace}</Title>
        <Text size="sm" c="dimmed">
          {t.freshness.traceWhy}
        </Text>
        {recent.length === 0 ? (
          <Text size="sm">{t.freshness.noEvents}</Text>
        ) : (
          <>
            <DeliveryPlot recent={recent} />
            <DeliveryTable recent={recent} />
          </>
        )}
      </Stack>
    </Drawer>
  );
}
