import { Button, Group, SegmentedControl, Text } from '@mantine/core';
import { useMediaQuery } from '@mantine/hooks';
import type { ReactNode } from 'react';
import { useLocation, useNavigate } from 'react-router';
import { isProduction } from '../api/environments.js';
import { useI18n } from '../i18n/i18n.js';
import { EnvironmentKey } from './environment-name.js';
import { SelectorIcon } from './icons.js';
import { lazyPart } from './lazy-part.js';
import { lazyRoutes } from './lazy-routes.js';
import { PopupButton } from './popup-button.js';
import type { ScopeChoices } from './scope-menu.js';
import { environmentIn, scopePath, useScope } from './scope.js';
import { visible } from '../i18n/visible.js';

const ScopeChoicesMenu = lazyPart(lazyRoutes.scopeMenu);

/** More environments than this are shown as a menu. */
const maxSegments = 5;

/** Selects the project and the environment, and stays on the same page. */
export function ScopeSwitch() {
  const { t } = useI18n();
  const { project, environment, projects } = useScope();
  const navigate = useNavigate();
  const { pathname, search } = useLocation();
  const path = pathname.split('/').slice(4);
  const narrow = useMediaQuery('(max-width: 47.99em)', undefined, { getInitialValueInEffect: false });
  const go = (projectId: string, env: string): void =>
    void navigate(scopePath(projectId, env, path[0] ?? ''));
  // A flag and a request are the same in all environments of their project, and so are the filters of a list.
  const goTo = (env: string): void => void navigate(scopePath(project.id, env, path.join('/')) + search);
  // While two environments swap their keys, both have the same key until the second change arrives. List it once.
  const environments = project.environments.filter(
    (each) =>
      each === environment ||
      each === project.environments.find(({ key }) => key === each.key && key !== environment.key),
  );
  const choices = environments.map((each) => ({
    value: each.key,
    label: <EnvironmentKey environment={each} />,
  }));
  return (
    <Group gap={10} wrap="nowrap" miw={0} className="fc-scope">
      <ScopeMenu
        label={t.shell.projectIs(project.name)}
        heading={t.shell.project}
        shown={<span className="fc-truncate">{visible(project.name)}</span>}
        choices={projects.map(({ id, name }) => ({ value: id, label: visible(name) }))}
        value={project.id}
        onChange={(id) => {
          const next = projects.find((each) => each.id === id);
          const env = next && environmentIn(next, environment.key);
          if (env !== undefined) go(id, env.key);
        }}
      />
      {narrow || environments.length > maxSegments ? (
        <ScopeMenu
          label={t.shell.environmentIs(environment.key)}
          heading={t.shell.environment}
          shown={<EnvironmentKey environment={environment} />}
          choices={choices}
          value={environment.key}
          onChange={goTo}
        />
      ) : (
        <SegmentedControl
          size="xs"
          value={environment.key}
          onChange={goTo}
          aria-label={t.shell.environment}
          data={choices}
        />
      )}
      {isProduction(environment) && (
        <Text size="sm" fw={500} c="var(--fc-production)" component="span" visibleFrom="md">
          {t.shell.production}
        </Text>
      )}
    </Group>
  );
}

interface ScopeMenuProps extends ScopeChoices {
  readonly label: string;
  readonly shown: ReactNode;
}

function ScopeMenu({ label, shown, ...choices }: ScopeMenuProps) {
  return (
    <PopupButton popup="menu" render={(close) => <ScopeChoicesMenu {...choices} onClose={close} />}>
      {(button) => (
        <Button
          variant="default"
          className="fc-scope-button"
          rightSection={<SelectorIcon size={16} />}
          aria-label={label}
          {...button}
        >
          {shown}
        </Button>
      )}
    </PopupButton>
  );
}
