import { Button } from '@mantine/core';
import { Link } from 'react-router';
import { useI18n } from '../i18n/i18n.js';
import { EmptyState } from './empty-state.js';
import { ActivityIcon } from './icons.js';
import { scopePath, useScope } from './scope.js';

/** Replaces pages that need tables which the database does not have; links to the activity. */
export function LiveOnly() {
  const { t } = useI18n();
  const { project, environment } = useScope();
  return (
    <EmptyState icon={<ActivityIcon size={36} />} title={t.liveOnly.title} text={t.liveOnly.hint}>
      <Button
        component={Link}
        to={scopePath(project.id, environment.key, 'activity')}
        variant="light"
        mt="sm"
      >
        {t.liveOnly.activity}
      </Button>
    </EmptyState>
  );
}
