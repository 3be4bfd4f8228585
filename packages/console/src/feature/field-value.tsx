import { Code, Text } from '@mantine/core';
import { ExactNumber, writeJson } from '../api/exact-json.js';
import { toTimeMs } from '../i18n/format.js';
import { type I18n, useI18n } from '../i18n/i18n.js';
import { nameOf, visible } from '../i18n/visible.js';
import { ExpressionText, toExpression } from './expression.js';

interface FieldValueProps {
  /** The name of the field; some have special formats. */
  readonly field: string;
  readonly value: unknown;
}

/** Formats the value of a field. */
export function FieldValue({ field, value }: FieldValueProps) {
  const texts = useI18n();
  const { t } = texts;
  if (value === null || value === undefined || value === '') {
    return (
      <Text size="sm" c="dimmed" fs="italic" component="span">
        {t.feature.empty}
      </Text>
    );
  }
  if (typeof value === 'boolean') return <span>{value ? t.features.on : t.features.off}</span>;
  if (typeof value === 'number' || value instanceof ExactNumber)
    return <span className="fc-wrap">{writeJson(value)}</span>;
  if (typeof value === 'string') return <span className="fc-wrap">{formatText(field, value, texts)}</span>;
  const expression = field === 'conditions' || field === 'condition' ? toExpression(value) : null;
  if (expression === null) return <Code className="fc-wrap">{visible(writeJson(value))}</Code>;
  return (
    <span className="fc-wrap">
      <ExpressionText expression={expression} />
    </span>
  );
}

function formatText(field: string, value: string, { t, format }: I18n): string {
  if (field === 'starts_at' || field === 'ends_at') {
    const atMs = toTimeMs(value);
    return atMs === null || /\.\d*[1-9]/.test(value) ? visible(value) : format.dateTime(atMs);
  }
  if (field === 'action') return nameOf(t.ruleActions, value);
  return field === 'kind' ? nameOf(t.kinds, value) : visible(value);
}
