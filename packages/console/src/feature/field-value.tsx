import { Code, Text } from '@mantine/core';
import { ExactNumber, writeJson } from '../api/exact-json.js';
import { toTimeMs } from '../i18n/format.js';
import { type I18n, useI18n } from '../i18n/i18n.js';
import { nameOf, visible } from '../i18n/visible.js';

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
  if (typeof value === 'number') return <span>{value}</span>;
  if (value instanceof ExactNumber) return <span className="fc-wrap">{value.digits}</span>;
  if (typeof value === 'string') return <span className="fc-wrap">{formatText(field, value, texts)}</span>;
  const conditions = field === 'conditions' ? toConditions(value) : null;
  if (conditions !== null) return <Conditions conditions={conditions} />;
  return <Code className="fc-wrap">{visible(writeJson(value))}</Code>;
}

function formatText(field: string, value: string, { t, format }: I18n): string {
  if (field === 'starts_at' || field === 'ends_at') {
    const atMs = toTimeMs(value);
    return atMs === null || /\.\d*[1-9]/.test(value) ? visible(value) : format.dateTime(atMs);
  }
  if (field === 'action') return nameOf(t.ruleActions, value);
  return field === 'kind' ? nameOf(t.kinds, value) : visible(value);
}

interface Condition {
  readonly attribute: string;
  readonly operator: string;
  readonly value: unknown;
}

/** The conditions, if they have only the usual members; null for other formats of the host. */
function toConditions(value: unknown): readonly Condition[] | null {
  return Array.isArray(value) && value.length > 0 && value.every(isCondition) ? value : null;
}

function isCondition(value: unknown): value is Condition {
  if (typeof value !== 'object' || value === null) return false;
  const { attribute, operator } = value as Partial<Condition>;
  return typeof attribute === 'string' && typeof operator === 'string' && Object.keys(value).every(isMember);
}

const isMember = (name: string): boolean => ['attribute', 'operator', 'value'].includes(name);

/** Quotes strings that could be read as another value or as several. */
function formatOperand(value: unknown): string {
  const isPlain =
    typeof value === 'string' && /^(?!true$|false$|null$)[\p{L}_](?:[^,"]*[^\s,"])?$/u.test(value);
  return visible(isPlain ? value : writeJson(value));
}

function Conditions({ conditions }: { readonly conditions: readonly Condition[] }) {
  const { t } = useI18n();
  return (
    <span className="fc-wrap">
      {conditions.map(({ attribute, operator, value }, index) => (
        <span key={`${index} ${attribute}`}>
          {index > 0 && ` ${t.and} `}
          <b>{visible(attribute)}</b> {nameOf(t.operators, operator)}{' '}
          {Array.isArray(value) ? value.map(formatOperand).join(', ') : formatOperand(value)}
        </span>
      ))}
    </span>
  );
}
