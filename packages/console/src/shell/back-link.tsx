import type { PresenceState } from '@flagcast/client/presence';
import { Button, Group } from '@mantine/core';
import { Link, useLocation, useNavigate } from 'react-router';
import { BackIcon } from './icons.js';
import { PresenceLine } from './presence.js';
import { scopePath, useScope } from './scope.js';

interface BackRowProps {
  /** The list in the current environment, e.g. `features`. */
  readonly page: string;
  readonly label: string;
  readonly presence: PresenceState;
}

/**
 * The first row of the page of one thing: the link to the list of all, back to where the user was on it, and who else has
 * the page open. As high as an avatar: the page does not move when people come and go.
 */
export function BackRow({ page, label, presence }: BackRowProps) {
  const { project, environment } = useScope();
  const navigate = useNavigate();
  const state = useLocation().state as { readonly fromList?: boolean } | null;
  return (
    <Group justify="space-between" wrap="nowrap" mih={24}>
      <Button
        component={Link}
        to={scopePath(project.id, environment.key, page)}
        variant="subtle"
        size="compact-sm"
        leftSection={<BackIcon size={16} />}
        flex="none"
        ml={-8}
        onClick={(event) => {
          if (state?.fromList !== true || event.ctrlKey || event.metaKey || event.shiftKey) return;
          event.preventDefault();
          void navigate(-1);
        }}
      >
        {label}
      </Button>
      <PresenceLine {...presence} />
    </Group>
  );
}
