import { Table, Text } from '@mantine/core';
import { useFeatures } from '@flagcast/client/react';
import { useI18n } from '../i18n/i18n.js';
import type { Delivery } from './deliveries.js';
import { visible } from '../i18n/visible.js';

const maxRows = 20;

interface Stages {
  readonly seen: number | null;
  readonly received: number;
  readonly applied: number;
  readonly total: number;
}

/** Duration of each stage in milliseconds; negative if the clocks of two machines differ. */
function stagesOf({ committedAtMs, seenAtMs, receivedAtMs, appliedAtMs }: Delivery): Stages {
  return {
    seen: committedAtMs === null ? null : seenAtMs - committedAtMs,
    received: receivedAtMs - seenAtMs,
    applied: appliedAtMs - receivedAtMs,
    total: appliedAtMs - (committedAtMs ?? seenAtMs),
  };
}

/** The newest deliveries, each with the time of its stages. */
export function DeliveryTable({ recent }: { readonly recent: readonly Delivery[] }) {
  const { t, format } = useI18n();
  const features = useFeatures();
  const cell = (ms: number | null): string => (ms === null ? '–' : format.number(Math.round(ms)));
  return (
    <Table.ScrollContainer minWidth={340}>
      <Table fz="xs" className="fc-numbers">
        <Table.Thead>
          <Table.Tr>
            <Table.Th>{t.freshness.event}</Table.Th>
            <Table.Th>{t.freshness.databaseRead}</Table.Th>
            <Table.Th>{t.freshness.network}</Table.Th>
            <Table.Th>{t.freshness.rendered}</Table.Th>
            <Table.Th>{t.freshness.total}</Table.Th>
          </Table.Tr>
        </Table.Thead>
        <Table.Tbody>
          {recent.slice(0, maxRows).map((delivery) => {
            const { seen, received, applied, total } = stagesOf(delivery);
            const { id, type, feature_id: featureId, committed_at: at, seen_at: seenAt } = delivery.event;
            return (
              <Table.Tr key={id}>
                <Table.Td>
                  <Text size="xs" fw={600} truncate maw={{ base: 90, sm: 190 }}>
                    {visible(features.get(featureId ?? '')?.name ?? t.approvals.deletedFeature)}
                  </Text>
                  <Text size="xs" c="dimmed" title={visible(type)}>
                    {format.timeWithSeconds(Date.parse(at ?? seenAt))}
                  </Text>
                </Table.Td>
                <Table.Td>{cell(seen)}</Table.Td>
                <Table.Td>{cell(received)}</Table.Td>
                <Table.Td>{cell(applied)}</Table.Td>
                <Table.Td fw={600}>{cell(total)}</Table.Td>
              </Table.Tr>
            );
          })}
        </Table.Tbody>
      </Table>
    </Table.ScrollContainer>
  );
}
