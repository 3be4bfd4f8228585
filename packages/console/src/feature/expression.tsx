import { writeJson } from '../api/exact-json.js';
import { useI18n } from '../i18n/i18n.js';
import { nameOf, visible } from '../i18n/visible.js';

interface Condition {
  readonly attribute: string;
  readonly operator: string;
  readonly value: unknown;
}

interface ConditionGroup {
  readonly join: 'and' | 'or' | 'and_not';
  readonly children: readonly Expression[];
}

export type Expression = Condition | ConditionGroup;

const joins = ['and', 'or', 'and_not'] as const;

/** Deeper ones are shown as JSON: nobody reads so many brackets. */
const maxDepth = 20;

/** The conditions of a rule, as a list or as Togglr's groups; null for other formats of the host. */
export function toExpression(value: unknown, depth = 0): Expression | null {
  if (typeof value !== 'object' || value === null || depth > maxDepth) return null;
  if (Array.isArray(value)) return toGroup('and', value, depth);
  const members = Object.entries(value).filter(([, member]) => member !== null);
  const { condition, group, ...rest } = Object.fromEntries(members) as Record<string, unknown>;
  if (Object.keys(rest).length > 0) return isCondition(value) ? value : null;
  if (condition !== undefined) return group === undefined && isCondition(condition) ? condition : null;
  const { operator, children, ...others } = (group ?? {}) as Record<string, unknown>;
  const join = joins.find((each) => each === operator);
  if (join === undefined || !Array.isArray(children) || Object.keys(others).length > 0) return null;
  return toGroup(join, children, depth);
}

function toGroup(join: ConditionGroup['join'], values: readonly unknown[], depth: number): Expression | null {
  const children = values.flatMap((value) => toExpression(value, depth + 1) ?? []);
  if (children.length === 0 || children.length < values.length) return null;
  return children.length === 1 ? (children[0] ?? null) : { join, children };
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

interface ExpressionTextProps {
  readonly expression: Expression;
  /** A group is put in brackets. Default false. */
  readonly nested?: boolean;
}

/** Conditions as people read them, such as `country is one of DE, AT and (plan is pro or 20 % of users by user_id)`. */
export function ExpressionText({ expression, nested = false }: ExpressionTextProps) {
  const { t } = useI18n();
  if (!('join' in expression)) return <ConditionText {...expression} />;
  const { join, children } = expression;
  return (
    <>
      {nested && '('}
      {children.map((child, index) => (
        <span key={index}>
          {index > 0 && ` ${t.targeting.joins[join]} `}
          <ExpressionText expression={child} nested />
        </span>
      ))}
      {nested && ')'}
    </>
  );
}

function ConditionText({ attribute, operator, value }: Condition) {
  const { t } = useI18n();
  const operand = Array.isArray(value) ? value.map(formatOperand).join(', ') : formatOperand(value);
  if (operator === 'percentage') return t.targeting.percentBy(operand, attribute);
  return (
    <>
      <b>{visible(attribute)}</b> {nameOf(t.operators, operator)} {operand}
    </>
  );
}
