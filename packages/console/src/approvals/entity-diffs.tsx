import { Text } from '@mantine/core';
import type { ChangedEntity, OpenChange, RequestedField } from '../api/types.js';
import { DiffList } from '../feature/diff-list.js';
import { useI18n } from '../i18n/i18n.js';
import { nameOf, visible } from '../i18n/visible.js';
import { changedFields } from './requests.js';

interface EntityDiffsProps {
  readonly shown: OpenChange;
  /** Fields that differ from it are marked. Null: none. */
  readonly before?: OpenChange | null;
}

/** What a request changes in each entity. */
export function EntityDiffs({ shown, before = null }: EntityDiffsProps) {
  const { t } = useI18n();
  const hasSeveralFlags = new Set(shown.entities.map(({ feature_id: id }) => id)).size > 1;
  return shown.entities.map((entity) => (
    <div key={`${entity.entity} ${entity.entity_id}`}>
      <Text size="sm" fw={600}>
        {nameOf(t.approvals.verbs, entity.action ?? 'update')} · {nameOf(t.entities, entity.entity)}
        {hasSeveralFlags && ` · ${visible(entity.feature_name ?? t.approvals.deletedFeature)}`}
      </Text>
      <DiffList diff={diffOf(entity, shown)} changed={changedFields(entity, before)} />
    </div>
  ));
}

/** The current value says nothing about a request that is decided. */
function diffOf({ diff }: ChangedEntity, { status }: OpenChange): readonly RequestedField[] {
  if (status === 'pending') return diff;
  return diff.map(({ field, old, new: after }) => ({ field, old, new: after }));
}
