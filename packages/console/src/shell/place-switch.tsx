import { Menu, SegmentedControl, Text, UnstyledButton } from '@mantine/core';
import { useNavigate } from 'react-router';
import { useTexts } from '../texts/texts.js';
import { CheckIcon, LockIcon, SelectorIcon } from './icons.js';
import { placePath, usePlace } from './place.js';
import { usePageName } from './page-name.js';

/** Changes the project and the environment, and stays on the page where that makes sense. */
export function PlaceSwitch() {
  const { t } = useTexts();
  const { project, environment, projects } = usePlace();
  const navigate = useNavigate();
  const page = usePageName();
  const go = (projectId: string, env: string): void => void navigate(placePath(projectId, env, page));
  return (
    <div className="fc-place">
      <Menu position="bottom-start" width={240}>
        <Menu.Target>
          <UnstyledButton className="fc-place-button" aria-label={t.shell.projectIs(project.name)}>
            <Text fw={600} size="sm" truncate component="span">
              {project.name}
            </Text>
            <SelectorIcon size={16} />
          </UnstyledButton>
        </Menu.Target>
        <Menu.Dropdown>
          <Menu.Label>{t.shell.project}</Menu.Label>
          {projects.map(({ id, name, environments }) => (
            <Menu.Item
              key={id}
              rightSection={id === project.id ? <CheckIcon size={16} /> : null}
              onClick={() => {
                const env = environments.find(({ key }) => key === environment.key) ?? environments[0];
                if (env !== undefined) go(id, env.key);
              }}
            >
              {name}
            </Menu.Item>
          ))}
        </Menu.Dropdown>
      </Menu>
      <SegmentedControl
        size="xs"
        value={environment.key}
        onChange={(env) => go(project.id, env)}
        aria-label={t.shell.environment}
        data={project.environments.map(({ key, guarded }) => ({
          value: key,
          label: (
            <span className="fc-env" title={guarded ? t.shell.guarded : undefined}>
              {key}
              {guarded && <LockIcon size={12} />}
            </span>
          ),
        }))}
      />
    </div>
  );
}
