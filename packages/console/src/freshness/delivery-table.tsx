import { Table, Text } from '@mantine/core';
import { useFeatures } from '@flagcast/client/react';
import { useI18n } from '../i18n/i18n.js';
import type { Delivery } from './deliveries.js';
import { visible } from '../i18n/visible.js';

const maxRows = 20;

/**
 * Duration of each stage and of all in milliseconds; negative if the clocks of two machines differ, null if it is not
 * known.
 */
function stagesOf({ committedAtMs, seenAtMs, receivedAtMs, appliedAtMs }: Delivery): (number | null)[] {
  return [
    committedAtMs === null ? null : seenAtMs - committedAtMs,
    receivedAtMs - seenAtMs,
    appliedAtMs - receivedAtMs,
    appliedAtMs - (committedAtMs ?? seenAtMs),
  ];
}

/** The newest deliveries, each with the time of its stages. */
export function DeliveryTable({ recent }: { readonly recent: readonly Delivery[] }) {
  const { t, format } = useI18n();
  const features = useFeatures();
  return (
    <Table.ScrollContainer minWidth={340}>
      <Table fz="xs" className="fc-numbers">
        <Table.Thead>
          <Table.Tr>
            {(['event', 'databaseRead', 'network', 'rendered', 'total'] as const).map((column) => (
              <Table.Th key={column}>{t.freshness[column]}</Table.Th>
            ))}
          </Table.Tr>
        </Table.Thead>
        <Table.Tbody>
          {recent.slice(0, maxRows).map((delivery) => {
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
                {stagesOf(delivery).map((ms, stage) => (
                  <Table.Td key={stage}>{ms === null ? '–' : format.number(Math.round(ms))}</Table.Td>
                ))}
              </Table.Tr>
            );
          })}
        </Table.Tbody>
      </Table>
    </Table.ScrollContainer>
  );
}
