import { Autocomplete, Button, Group, Select, TextInput } from '@mantine/core';
import { useFeatures } from '@flagcast/client/react';
import { useState } from 'react';
import { useI18n } from '../i18n/i18n.js';
import { nameOf, visible } from '../i18n/visible.js';
import { SearchIcon } from '../shell/icons.js';
import { useScope } from '../shell/scope.js';
import { presets, type useActivityFilter } from './use-activity-filter.js';

const entities = ['feature', 'rule', 'feature_schedule', 'environment'];
const actions = ['created', 'updated', 'deleted', 'pending', 'approved', 'rejected', 'cancelled'];

interface ActivityFiltersProps extends Pick<ReturnType<typeof useActivityFilter>, 'parameters' | 'change'> {
  /** Suggested authors. */
  readonly people: string[];
}

/** The fields that set the filter in the address. */
export function ActivityFilters({ parameters, change, people }: ActivityFiltersProps) {
  const { t } = useI18n();
  const { environment } = useScope();
  const features = useFeatures();
  const [isCustom, setCustom] = useState(false);
  const { since, until, feature_id: flag, last } = parameters;
  const isRange = isCustom || since !== undefined || until !== undefined;
  const flags = Array.from(features.values(), ({ id, name }) => ({ value: id, label: visible(name) }));
  if (flag !== undefined && !features.has(flag)) flags.unshift({ value: flag, label: visible(flag) });
  const choice = (name: keyof typeof parameters, label: string, none: string, data: ChoiceProps['data']) => (
    <Choice
      label={label}
      none={none}
      value={parameters[name]}
      data={data}
      onChange={(value) => change({ [name]: value })}
    />
  );
  const timeField = (name: 'since' | 'until', label: string) => (
    <TimeField
      label={label}
      value={parameters[name]}
      onChange={(time) => change({ [name]: time, last: undefined })}
    />
  );
  const clear = (): void => {
    setCustom(false);
    change(Object.fromEntries(Object.keys(parameters).map((name) => [name, undefined])));
  };
  return (
    <Group component="search" gap="xs" className="fc-toolbar">
      {choice('projects', t.activity.scopeFilter, t.activity.onlyHere(environment.name), [
        { value: 'all', label: t.activity.allProjects },
      ])}
      <Choice
        label={t.activity.timeFilter}
        none={t.activity.anyTime}
        value={isRange ? 'custom' : last}
        data={optionsOf([...Object.keys(presets), 'custom'], t.activity.ranges)}
        onChange={(range) => {
          setCustom(range === 'custom');
          if (range !== 'custom') change({ last: range, since: undefined, until: undefined });
        }}
      />
      {isRange && (
        <>
          {timeField('since', t.activity.from)}
          {timeField('until', t.activity.to)}
        </>
      )}
      {choice('action', t.activity.actionFilter, t.activity.allActions, optionsOf(actions, t.actions))}
      {choice('entity', t.activity.typeFilter, t.activity.allTypes, optionsOf(entities, t.entities))}
      {choice('feature_id', t.activity.flagFilter, t.feature.back, flags)}
      <Autocomplete
        size="sm"
        data-search
        aria-label={t.activity.personFilter}
        placeholder={t.activity.personFilter}
        leftSection={<SearchIcon size={16} />}
        data={people}
        renderOption={({ option }) => visible(option.value)}
        clearable
        clearButtonProps={{ 'aria-label': t.features.clearSearch }}
        value={parameters.username ?? ''}
        onChange={(username) => change({ username })}
      />
      {Object.values(parameters).some((value) => value !== undefined) && (
        <Button variant="subtle" size="sm" onClick={clear}>
          {t.activity.clearFilters}
        </Button>
      )}
    </Group>
  );
}

const optionsOf = (values: readonly string[], labels: Readonly<Record<string, string>>) =>
  values.map((value) => ({ value, label: nameOf(labels, value) }));

interface ChoiceProps {
  readonly label: string;
  /** What is shown without a choice. */
  readonly none: string;
  readonly value: string | undefined;
  readonly data: { readonly value: string; readonly label: string }[];
  readonly onChange: (value: string | undefined) => void;
}

/** A list with a search, whose choice can be taken back. */
function Choice({ label, none, value = '', data, onChange }: ChoiceProps) {
  const { t } = useI18n();
  return (
    <Select
      size="sm"
      searchable
      clearable
      limit={50}
      aria-label={label}
      placeholder={none}
      clearButtonProps={{ 'aria-label': none }}
      nothingFoundMessage={t.activity.noMatch}
      value={value === '' ? null : value}
      data={data}
      onChange={(chosen) => onChange(chosen ?? undefined)}
    />
  );
}

interface TimeFieldProps {
  readonly label: string;
  /** RFC 3339 in UTC; undefined: no limit. */
  readonly value: string | undefined;
  readonly onChange: (time: string | undefined) => void;
}

/** A time in the zone of the browser. */
function TimeField({ label, value, onChange }: TimeFieldProps) {
  const atMs = Date.parse(value ?? '');
  const offsetMs = new Date(atMs).getTimezoneOffset() * 60_000;
  const local = Number.isNaN(atMs) ? '' : new Date(atMs - offsetMs).toISOString().slice(0, 19);
  return (
    <TextInput
      size="sm"
      type="datetime-local"
      step={1}
      aria-label={label}
      leftSection={<small>{label}</small>}
      leftSectionWidth={44}
      value={local}
      onChange={({ currentTarget: { value: typed } }) => {
        const date = new Date(typed);
        onChange(Number.isNaN(date.getTime()) ? undefined : date.toISOString());
      }}
    />
  );
}
