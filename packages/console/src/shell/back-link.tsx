import { Button } from '@mantine/core';
import { Link, useLocation, useNavigate } from 'react-router';
import { BackIcon } from './icons.js';
import { scopePath, useScope } from './scope.js';

interface BackLinkProps {
  /** The list in the current environment, e.g. `features`. */
  readonly page: string;
  readonly label: string;
}

/** The link from the page of one thing to the list of all: back to where the user was on it, if the user came from there. */
export function BackLink({ page, label }: BackLinkProps) {
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
