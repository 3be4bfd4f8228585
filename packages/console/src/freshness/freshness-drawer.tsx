import '../shell/later-styles.js';
import { Drawer, Stack, Table, Text, Title } from '@mantine/core';
import type { ChannelState } from '@flagcast/client';
import { useSyncExternalStore } from 'react';
import { useChannelState } from '@flagcast/client/react';
import { useLive, useLiveChannel } from '../api/live.js';
import { useNowMs } from '../shell/relative-time.js';
import { useReturnFocus } from '../shell/use-return-focus.js';
import { useI18n } from '../i18n/i18n.js';
import { DeliveryTable } from './delivery-table.js';
import { useGuarantee, useStatus } from './status.js';

/** The connection, its guarantee, and how long recent events took to the screen. */
export default function FreshnessDrawer({ onClose }: { readonly onClose: () => void }) {
  const { t } = useI18n();
  useReturnFocus();
  const { deliveries } = useLiveChannel();
  const { recent } = useSyncExternalStore(deliveries.subscribe, deliveries.getView);
  return (
    <Drawer
      opened
      onClose={onClose}
      position="right"
      size="lg"
      title={<Text fw={600}>{t.freshness.title}</Text>}
      closeButtonProps={{ 'aria-label': t.shell.close }}
    >
      <Stack>
        <Facts />
        <div>
          <Title order={2}>{t.freshness.deliveries}</Title>
          <Text size="sm" c="dimmed">
            {t.freshness.deliveriesHint}
          </Text>
        </div>
        {recent.length === 0 ? (
          <Text size="sm" c="dimmed">
            {t.freshness.noEvents}
          </Text>
        ) : (
          <DeliveryTable recent={recent} />
        )}
      </Stack>
    </Drawer>
  );
}

function Facts() {
  const { t, format } = useI18n();
  const { client, connectionInfo } = useLive();
  const { deliveries } = useLiveChannel();
  const { status, label, reason, asOf } = useStatus();
  const lagMs = useChannelState(selectLag);
  const { reconnects } = useSyncExternalStore(deliveries.subscribe, deliveries.getView);
  const guarantee = useGuarantee();
  const nowMs = useNowMs(1_000);
  const { lastMessageAtMs } = connectionInfo();
  const { unknown } = t.freshness;
  const facts: [string, string][] = [
    [t.freshness.state, reason === null ? label : `${label}. ${reason}`],
    [t.freshness.accurateAsOf, asOf ?? (status.state === 'live' ? t.freshness.now : unknown)],
    [t.freshness.lastHeartbeat, lastMessageAtMs === null ? unknown : format.ago(lastMessageAtMs, nowMs)],
    [
      t.freshness.latency,
      lagMs === null ? t.freshness.noEvent : t.freshness.ms(format.number(Math.max(0, Math.round(lagMs)))),
    ],
    [t.freshness.reconnects, format.number(reconnects)],
    [t.freshness.guarantee, guarantee?.text ?? unknown],
    [t.freshness.server, client.getHello()?.server ?? unknown],
  ];
  return (
    <Table variant="vertical" layout="fixed" withTableBorder className="fc-facts">
      <Table.Tbody>
        {facts.map(([name, value]) => (
          <Table.Tr key={name}>
            <Table.Th w={{ base: 130, sm: 170 }}>{name}</Table.Th>
            <Table.Td className="fc-wrap">{value}</Table.Td>
          </Table.Tr>
        ))}
      </Table.Tbody>
    </Table>
  );
}

const selectLag = ({ lagMs }: ChannelState): number | null => lagMs;
