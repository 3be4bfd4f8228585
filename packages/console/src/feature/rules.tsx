import type { FeatureRule, FeatureState } from '@flagcast/client';
import { Button, Code, Text, Title } from '@mantine/core';
import { useQuery } from '@tanstack/react-query';
import { memo, type ReactNode, useState } from 'react';
import { parseJson, writeJson } from '../api/exact-json.js';
import type { FeatureDetails } from '../api/types.js';
import { FailureAlert } from '../shell/failure-alert.js';
import { useScope } from '../shell/scope.js';
import { useApi } from '../sign-in/app-services.js';
import { useI18n } from '../i18n/i18n.js';
import { visible } from '../i18n/visible.js';
import { toExpression } from './expression.js';
import { FieldValue } from './field-value.js';

/** More rules are shown on demand. */
const maxRules = 20;

/** The rules of a flag in this environment, by priority. */
export function Rules({ feature }: { readonly feature: FeatureState }) {
  const { t } = useI18n();
  const [showsAll, setShowsAll] = useState(false);
  const { rules = [], rules_total: total = rules.length } = feature;
  const { all, error, refetch } = useAllRules(feature, showsAll && rules.length < total);
  const known = all ?? rules;
  const shown = showsAll ? known : known.slice(0, maxRules);
  return (
    <TargetList title={t.feature.rules} shown={shown.length} total={Math.max(total, known.length)}>
      <ul className="fc-list fc-targets">
        {shown.map((rule) => (
          <Rule key={rule.id} rule={rule} variants={feature.variants} />
        ))}
      </ul>
      {error !== null && <FailureAlert error={error} onRetry={refetch} />}
      {!showsAll && total > shown.length && (
        <Button variant="subtle" size="compact-sm" onClick={() => setShowsAll(true)}>
          {t.targeting.showAll(total)}
        </Button>
      )}
    </TargetList>
  );
}

/** The live state has the first rules only: this loads the others, and again when those change. */
function useAllRules(feature: FeatureState, enabled: boolean) {
  const api = useApi();
  const { environment } = useScope();
  const { data, error, refetch } = useQuery({
    queryKey: ['feature', feature.id, environment.key, feature.rules, feature.rules_total],
    queryFn: async () => {
      const query = new URLSearchParams({ env: environment.key }).toString();
      return await api.get<FeatureDetails>(`/api/features/${feature.id}?${query}`);
    },
    enabled,
    placeholderData: (before) => before,
  });
  const segments = new Map(feature.rules?.map((rule) => [rule.segment_id, rule.segment_name]));
  const all = data?.rules.map((row): FeatureRule => {
    const condition = row['condition'] ?? row['conditions'] ?? null;
    const textOf = (field: string): string | null => {
      const value = row[field];
      return typeof value === 'string' || typeof value === 'number' ? String(value) : null;
    };
    const segment = textOf('segment_id');
    return {
      id: row.id,
      action: textOf('action'),
      condition: condition === null ? null : writeJson(condition),
      segment_id: segment,
      segment_name: segments.get(segment) ?? null,
      flag_variant_id: textOf('flag_variant_id'),
      priority: typeof row['priority'] === 'number' ? row['priority'] : null,
    };
  });
  return { all, error, refetch: () => void refetch() };
}

interface RuleProps {
  readonly rule: FeatureRule;
  readonly variants: FeatureState['variants'];
}

/** E.g. `On for 20 % of users by user_id`. */
const Rule = memo(function Rule({ rule, variants = [] }: RuleProps) {
  const { t } = useI18n();
  const { action, priority, segment_id: segment, segment_name: segmentName, flag_variant_id: id } = rule;
  const condition = rule.condition === null ? null : parseCondition(rule.condition);
  const variant = variants.find((each) => each.id === id);
  const expression = toExpression(condition);
  const isShare = expression !== null && 'operator' in expression && expression.operator === 'percentage';
  return (
    <li>
      {action === 'assign' ? (
        <>
          {t.targeting.gets}{' '}
          {id === null ? t.targeting.defaultValue : <Code>{visible(variant?.name ?? id)}</Code>}
        </>
      ) : (
        <b>{action === 'include' ? t.features.on : action === 'exclude' ? t.features.off : action}</b>
      )}{' '}
      {isShare ? t.targeting.for : t.targeting.if}{' '}
      {segment !== null && t.targeting.segment(segmentName ?? segment)}
      {segment !== null && condition !== null && `: `}
      {condition !== null && <FieldValue field="conditions" value={condition} />}
      {segment === null && condition === null && t.activity.truncated}
      {priority !== null && (
        <Text size="xs" c="dimmed" component="span">
          {' '}
          · {t.targeting.priority(priority)}
        </Text>
      )}
    </li>
  );
});

/** The text itself if it is not JSON. */
function parseCondition(text: string): unknown {
  try {
    return parseJson(text);
  } catch {
    return text;
  }
}

interface TargetListProps {
  readonly title: string;
  readonly shown: number;
  readonly total: number | undefined;
  readonly note?: string | null;
  readonly children: ReactNode;
}

/** A list with its title. If it is not whole, it says so. */
export function TargetList({ title, shown, total = shown, note = null, children }: TargetListProps) {
  const { t } = useI18n();
  return (
    <div>
      <Title order={3} size="h5">
        {title}
        <Text size="sm" c="dimmed" component="span">
          {note !== null && ` ${note}`}
          {shown < total && ` · ${t.targeting.first(shown, total)}`}
        </Text>
      </Title>
      {children}
    </div>
  );
}
