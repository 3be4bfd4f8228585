import './later-styles.js';
import { Box, Group, Text, TextInput, VisuallyHidden } from '@mantine/core';
import { useFeatures } from '@flagcast/client/react';
import { useQueries } from '@tanstack/react-query';
import { type KeyboardEvent, useId, useLayoutEffect, useMemo, useState } from 'react';
import { useNavigate } from 'react-router';
import { type FeatureList, featuresQuery } from '../features/recorded-changes.js';
import { useI18n } from '../i18n/i18n.js';
import { visible } from '../i18n/visible.js';
import { useApi } from '../sign-in/app-services.js';
import { Dialog } from './dialog.js';
import { matchScore } from './match-score.js';
import { environmentIn, scopePath, useScope } from './scope.js';
import type { usePages } from './use-pages.js';

/** A place in the console. */
interface Target {
  readonly path: string;
  readonly name: string;
  /** What it is, or where. */
  readonly detail: string;
  readonly text: string;
}

const maxShown = 50;
/** The flags of more projects than this are not loaded. */
const maxProjects = 10;
const staleTimeMs = 60_000;

interface PaletteProps {
  readonly pages: ReturnType<typeof usePages>;
  readonly onClose: () => void;
}

/** Finds a flag, page or environment of any project by a few letters, and opens it. */
export default function Palette({ pages, onClose }: PaletteProps) {
  const { t } = useI18n();
  const navigate = useNavigate();
  const id = useId();
  const [query, setQuery] = useState('');
  const [chosen, setChosen] = useState(0);
  const targets = useTargets(pages);
  const found = useMemo(() => find(targets, query), [targets, query]);
  const active = Math.min(chosen, found.length - 1);
  const idOf = (index: number): string => `${id}-${index}`;
  useLayoutEffect(
    () => document.getElementById(`${id}-${active}`)?.scrollIntoView({ block: 'nearest' }),
    [id, active],
  );
  const open = (target: Target | undefined): void => {
    if (target === undefined) return;
    onClose();
    void navigate(target.path);
  };
  const onKeyDown = (event: KeyboardEvent): void => {
    const step = event.key === 'ArrowDown' ? 1 : event.key === 'ArrowUp' ? -1 : 0;
    const count = found.length;
    if (step !== 0) setChosen((before) => (Math.min(before, count - 1) + step + count) % count);
    else if (event.key === 'Enter' && !event.nativeEvent.isComposing) open(found[active]);
    else return;
    event.preventDefault();
  };
  return (
    <Dialog title={t.keyboard.palette} onClose={onClose}>
      <TextInput
        role="combobox"
        aria-label={t.keyboard.palette}
        aria-expanded={found.length > 0}
        aria-controls={id}
        aria-autocomplete="list"
        aria-activedescendant={active < 0 ? undefined : idOf(active)}
        value={query}
        onChange={(event) => {
          setQuery(event.currentTarget.value);
          setChosen(0);
        }}
        onKeyDown={onKeyDown}
        data-autofocus
      />
      <VisuallyHidden role="status">{t.keyboard.found(found.length)}</VisuallyHidden>
      <Box
        id={id}
        role="listbox"
        aria-label={t.keyboard.palette}
        h="min(420px, 60dvh)"
        mt="sm"
        className="fc-options"
      >
        {found.map((target, index) => (
          <Group
            key={target.path}
            id={idOf(index)}
            role="option"
            aria-selected={index === active}
            justify="space-between"
            wrap="nowrap"
            px="xs"
            py={8}
            onClick={() => open(target)}
          >
            <Text size="sm" truncate>
              {visible(target.name)}
            </Text>
            <Text size="xs" c="dimmed" truncate>
              {visible(target.detail)}
            </Text>
          </Group>
        ))}
      </Box>
    </Dialog>
  );
}

/** The best matches first; of equal ones, the nearest. */
function find(targets: readonly Target[], query: string): Target[] {
  return targets
    .flatMap((target) => {
      const score = matchScore(query, target.text);
      return score === null ? [] : [{ target, score }];
    })
    .toSorted((one, other) => (query === '' ? 0 : one.score - other.score))
    .slice(0, maxShown)
    .map(({ target }) => target);
}

/** Not inline: the result stays the same object while the lists do. */
const featuresOf = (results: readonly Pick<FeatureList, 'data'>[]) =>
  results.map(({ data }) => data?.features ?? []);

/** The pages and environments, then the flags: those of this project, and of others as far as they are loaded. */
function useTargets(pages: PaletteProps['pages']): readonly Target[] {
  const { t } = useI18n();
  const api = useApi();
  const { project, environment, projects } = useScope();
  const features = useFeatures();
  const elsewhere = useMemo(
    () =>
      projects.flatMap((each) => {
        const env = environmentIn(each, environment.key);
        return each === project || env === undefined ? [] : [{ project: each, env }];
      }),
    [projects, project, environment],
  );
  const lists = useQueries({
    queries: elsewhere.slice(0, maxProjects).map((each) => ({
      ...featuresQuery(api, each.project.id, each.env.key),
      staleTime: staleTimeMs,
    })),
    combine: featuresOf,
  });
  return useMemo(() => {
    const flag =
      ({ id: projectId, name: where }: typeof project, env: string) =>
      (each: { id: string; key: string; name: string }): Target => ({
        path: scopePath(projectId, env, `features/${each.id}`),
        name: each.name,
        detail: `${each.key} · ${where}`,
        text: `${each.name} ${each.key} ${projectId === project.id ? '' : where}`,
      });
    return [
      ...pages.map(({ to, label }) => ({ path: to, name: label, detail: project.name, text: label })),
      ...[project, ...elsewhere.map((each) => each.project)].flatMap((each) =>
        // The flags of the current one are among the pages.
        each.environments
          .filter((env) => env !== environment)
          .map(({ key, name }) => ({
            path: scopePath(each.id, key, 'features'),
            name: `${each.name} / ${key}`,
            detail: t.shell.environment,
            text: `${each.name} ${key} ${name}`,
          })),
      ),
      ...Array.from(features.values(), flag(project, environment.key)),
      ...elsewhere.flatMap((each, index) => (lists[index] ?? []).map(flag(each.project, each.env.key))),
    ];
  }, [t, pages, project, environment, features, elsewhere, lists]);
}
