import type { PresenceState } from '@flagcast/client/presence';
import { Button, Group } from '@mantine/core';
import { Link, useLocation, useNavigate } from 'react-router';
import { BackIcon } from './icons.js';
import { PresenceLine } from './presence.js';
import { scopePath, useScope } from './scope.js';

interface BackRowProps extends BackLinkProps {
  readonly presence: PresenceState;
}

/** The first row of the page of one thing. As high as an avatar: the page does not move when people come and go. */
export function BackRow({ presence, ...link }: BackRowProps) {
  return (
    <Group justify="space-between" wrap="nowrap" mih={24}>
      <BackLink {...link} />
      <PresenceLine {...presence} />
    </Group>
  );
}

interface BackLinkProps {
  /** The list in the current environment, e.g. `features`. */
  readonly page: string;
  readonly label: string;
}

/** The link to the list of all: back to where the user was on it, if the user came from there. */
function BackLink({ page, label }: BackLinkProps) {
  const { project, environment } = useScope();
  const navigate = useNavigate();
  const state = useLocation().state as { readonly fromList?: boolean } | null;
  return (
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
  );
}
