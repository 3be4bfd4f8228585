import type { FeatureSchedule, FeatureState, FeatureVariant } from '@flagcast/client';
import { Code, Paper, Stack, Text, Title } from '@mantine/core';
import { toTimeMs } from '../i18n/format.js';
import { useI18n } from '../i18n/i18n.js';
import { visible } from '../i18n/visible.js';
import { useNowMs } from '../shell/relative-time.js';
import { Rules, TargetList } from './rules.js';
import { ScheduleNote } from './schedule.js';
import { scheduleText } from './schedule-text.js';

/** Who gets what of a flag, and until when: its rules, variants and schedules in this environment. Read only. */
export function Targeting({ feature }: { readonly feature: FeatureState }) {
  const { t } = useI18n();
  const { rules, variants, schedules } = feature;
  // The database has no such tables.
  if (rules === undefined && variants === undefined && schedules === undefined) return null;
  const isEmpty = [rules, variants, schedules].every((list = []) => list.length === 0);
  return (
    <Paper withBorder p="lg" component="section" aria-label={t.targeting.title}>
      <Stack gap="sm">
        <Title order={2}>{t.targeting.title}</Title>
        <Text size="sm" c="dimmed">
          {isEmpty ? t.targeting.nothing : t.targeting.readOnly}
        </Text>
        {rules !== undefined && rules.length > 0 && <Rules feature={feature} />}
        {variants !== undefined && variants.length > 0 && (
          <TargetList
            title={t.targeting.variants}
            shown={variants.length}
            total={feature.variants_total}
            note={feature.rollout_key === null ? null : t.targeting.splitBy(feature.rollout_key)}
          >
            <Variants variants={variants} isWhole={variants.length === feature.variants_total} />
          </TargetList>
        )}
        {schedules !== undefined && schedules.length > 0 && (
          <TargetList title={t.feature.schedules} shown={schedules.length} total={feature.schedules_total}>
            <Schedules feature={feature} schedules={schedules} />
          </TargetList>
        )}
      </Stack>
    </Paper>
  );
}

interface VariantsProps {
  readonly variants: readonly FeatureVariant[];
  readonly isWhole: boolean;
}

function Variants({ variants, isWhole }: VariantsProps) {
  const { t } = useI18n();
  const rest = 100 - variants.reduce((sum, { rollout_percent: percent }) => sum + (percent ?? 0), 0);
  return (
    <ul className="fc-list fc-targets">
      {variants.map(({ id, name, rollout_percent: percent }) => (
        <li key={id}>
          {percent !== null && `${t.targeting.share(percent)}: `}
          <Code>{visible(name)}</Code>
        </li>
      ))}
      {isWhole && rest > 0 && rest < 100 && (
        <li>
          {t.targeting.everyoneElse}: {t.targeting.defaultValue}
        </li>
      )}
    </ul>
  );
}

interface SchedulesProps {
  readonly feature: FeatureState;
  readonly schedules: readonly FeatureSchedule[];
}

function Schedules({ feature, schedules }: SchedulesProps) {
  const texts = useI18n();
  const { t } = texts;
  // The texts name days and what has ended: they change once a minute at most.
  const nowMs = useNowMs(60_000);
  return (
    <>
      {feature.enabled ? (
        <ScheduleNote feature={feature} />
      ) : (
        <Text size="sm">{t.targeting.switchedOff}</Text>
      )}
      <ul className="fc-list fc-targets">
        {schedules.map((schedule) => {
          const { id, action, ends_at: end } = schedule;
          const hasEnded = end !== null && (toTimeMs(end) ?? Infinity) <= nowMs;
          const isInvalid = feature.schedule_state?.invalid_schedule_ids.includes(id) === true;
          return (
            <li key={id} data-over={hasEnded || undefined}>
              <b>{action === 'enable' ? t.features.on : action === 'disable' ? t.features.off : action}</b>{' '}
              {scheduleText(schedule, texts, nowMs)}
              {hasEnded && ` · ${t.targeting.ended}`}
              {isInvalid && (
                <Text size="sm" c="var(--fc-warn)">
                  {t.targeting.invalid}
                </Text>
              )}
            </li>
          );
        })}
      </ul>
    </>
  );
}
