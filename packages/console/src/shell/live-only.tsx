import { Button } from '@mantine/core';
import { Link } from 'react-router';
import { useTexts } from '../texts/texts.js';
import { EmptyState } from './empty-state.js';
import { ActivityIcon } from './icons.js';
import { placePath, usePlace } from './place.js';

/** In place of what a database without the tables behind it cannot give; leads to where there is something. */
export function LiveOnly() {
  const { t } = useTexts();
  const { project, environment } = usePlace();
  return (
    <EmptyState icon={<ActivityIcon size={36} />} title={t.liveOnly.title} text={t.liveOnly.why}>
      <Button
        component={Link}
        to={placePath(project.id, environment.key, 'activity')}
        variant="light"
        mt="sm"
      >
        {t.liveOnly.activity}
      </Button>
    </EmptyState>
  );
}
