import { Button } from '@mantine/core';
import { Link } from 'react-router';
import { BackIcon } from './icons.js';
import { scopePath, useScope } from './scope.js';

interface BackLinkProps {
  /** The list in the current environment, e.g. `features`. */
  readonly page: string;
  readonly label: string;
}

/** The link from the page of one thing to the list of all. */
export function BackLink({ page, label }: BackLinkProps) {
  const { project, environment } = useScope();
  return (
    <Button
      component={Link}
      to={scopePath(project.id, environment.key, page)}
      variant="subtle"
      size="compact-sm"
      leftSection={<BackIcon size={16} />}
      className="fc-back"
    >
      {label}
    </Button>
  );
}
