import { Autocomplete, Button, Group, Select, TextInput } from '@mantine/core';
import { useDebouncedCallback } from '@mantine/hooks';
import { useFeatures } from '@flagcast/client/react';
import { useEffect, useRef, useState } from 'react';
import { useI18n } from '../i18n/i18n.js';
import { nameOf, visible } from '../i18n/visible.js';
import { SearchIcon } from '../shell/icons.js';
import { useScope } from '../shell/scope.js';
import { presets, type useActivityFilter } from './use-activity-filter.js';

/** Delay after the last key before the filter applies, in milliseconds. */
const debounceMs = 300;

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
  const clear = (): void => {
    setCustom(false);
    change(Object.fromEntries(Object.keys(parameters).map((name) => [name, undefined])));
  };
  return (
    <Group component="search" gap="xs" className="fc-toolbar">
      <Choice
        label={t.activity.scopeFilter}
        none={t.activity.onlyHere(environment.name)}
        value={parameters.projects}
        data={[{ value: 'all', label: t.activity.allProjects }]}
        onChange={(projects) => change({ projects })}
      />
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
          <TimeField
            label={t.activity.from}
            value={since}
            onChange={(time) => change({ since: time, last: undefined })}
          />
          <TimeField
            label={t.activity.to}
            value={until}
            onChange={(time) => change({ until: time, last: undefined })}
          />
        </>
      )}
      <Choice
        label={t.activity.actionFilter}
        none={t.activity.allActions}
        value={parameters.action}
        data={optionsOf(actions, t.actions)}
        onChange={(action) => change({ action })}
      />
      <Choice
        label={t.activity.typeFilter}
        none={t.activity.allTypes}
        value={parameters.entity}
        data={optionsOf(entities, t.entities)}
        onChange={(entity) => change({ entity })}
      />
      <Choice
        label={t.activity.flagFilter}
        none={t.activity.allFlags}
        value={flag}
        data={flags}
        onChange={(id) => change({ feature_id: id })}
      />
      <PersonField
        people={people}
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

interface PersonFieldProps {
  readonly people: string[];
  readonly value: string;
  readonly onChange: (person: string) => void;
}

function PersonField({ people, value, onChange }: PersonFieldProps) {
  const { t } = useI18n();
  const [typed, setTyped] = useState(value);
  /** The value that was last written here. Another one comes from a navigation. */
  const written = useRef(value);
  useEffect(() => {
    if (value !== written.current) setTyped(value);
    written.current = value;
  }, [value]);
  const write = useDebouncedCallback((person: string) => {
    written.current = person;
    onChange(person);
  }, debounceMs);
  return (
    <Autocomplete
      size="sm"
      data-search
      aria-label={t.activity.personFilter}
      placeholder={t.activity.personFilter}
      leftSection={<SearchIcon size={16} />}
      data={people}
      renderOption={({ option }) => visible(option.value)}
      clearable
      clearButtonProps={{ 'aria-label': t.activity.clearPersonFilter }}
      value={typed}
      onChange={(person) => {
        setTyped(person);
        write(person.trim());
      }}
    />
  );
}
