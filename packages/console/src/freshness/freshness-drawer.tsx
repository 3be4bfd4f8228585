import '../shell/later-styles.js';
import { Drawer, Skeleton, Stack, Table, Text, Title } from '@mantine/core';
import type { ChannelState } from '@flagcast/client';
import { lazy, Suspense, useSyncExternalStore } from 'react';
import { useChannelState, useConnectionStatus } from '@flagcast/client/react';
import { useLive, useLiveChannel } from '../api/live.js';
import { useSignInMode } from '../api/queries.js';
import { ErrorBoundary } from '../shell/error-boundary.js';
import { lazyRoutes } from '../shell/lazy-routes.js';
import { useNowMs } from '../shell/relative-time.js';
import { useReturnFocus } from '../shell/use-return-focus.js';
import { useI18n } from '../i18n/i18n.js';
import { DeliveryFigures, DeliveryTable } from './delivery-table.js';
import { describeStatus } from './freshness-chip.js';
import { describeGuarantee, useGuarantee } from './use-guarantee.js';

const DeliveryPlot = lazy(lazyRoutes.deliveryPlot);

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
          <div className="fc-empty fc-empty-small">{t.freshness.noEvents}</div>
        ) : (
          <>
            <DeliveryFigures recent={recent} />
            <ErrorBoundary resetKey="plot" fallback={null}>
              <Suspense fallback={<Skeleton height={175} />}>
                <DeliveryPlot recent={recent} />
              </Suspense>
            </ErrorBoundary>
            <DeliveryTable recent={recent} />
          </>
        )}
      </Stack>
    </Drawer>
  );
}

function Facts() {
  const texts = useI18n();
  const { t, format } = texts;
  const { connectionInfo } = useLive();
  const { deliveries } = useLiveChannel();
  const status = useConnectionStatus();
  const lagMs = useChannelState(selectLag);
  const { reconnects } = useSyncExternalStore(deliveries.subscribe, deliveries.getView);
  const { data: mode } = useSignInMode();
  const guarantee = useGuarantee();
  const nowMs = useNowMs(1_000);
  const { lastMessageAtMs, cursorAtMs, hello } = connectionInfo();
  const cursorAge =
    cursorAtMs === null
      ? t.freshness.unknown
      : t.freshness.seconds(Math.max(0, Math.round((nowMs - cursorAtMs) / 1_000)));
  const lastHeartbeat = lastMessageAtMs === null ? t.freshness.unknown : format.ago(lastMessageAtMs, nowMs);
  const asOf =
    status.state === 'stale'
      ? format.time(status.sinceMs)
      : status.state === 'live'
        ? t.freshness.now
        : t.freshness.unknown;
  const facts: [string, string][] = [
    [
      t.freshness.state,
      status.state === 'stale'
        ? `${describeStatus(status, texts)}. ${t.freshness.staleReasons[status.reason]}`
        : describeStatus(status, texts),
    ],
    [t.freshness.accurateAsOf, asOf],
    [t.freshness.cursorAge, cursorAge],
    [t.freshness.lastHeartbeat, lastHeartbeat],
    [
      t.freshness.latency,
      lagMs === null ? t.freshness.noEvent : t.freshness.ms(format.number(Math.max(0, Math.round(lagMs)))),
    ],
    [t.freshness.reconnects, format.number(reconnects)],
    [t.freshness.guarantee, describeGuarantee(guarantee, t)],
    [t.freshness.server, hello?.server ?? mode?.server ?? t.freshness.unknown],
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
