-- Roles and permissions. The ids are fixed, so that memberships can be copied from one database to another.
INSERT INTO public.permissions (id, key, name) VALUES
  ('7b1d0a10-0000-4000-8000-000000000001', 'project.view', 'View the project'),
  ('7b1d0a10-0000-4000-8000-000000000002', 'project.manage', 'Manage the project'),
  ('7b1d0a10-0000-4000-8000-000000000003', 'feature.view', 'View features'),
  ('7b1d0a10-0000-4000-8000-000000000004', 'feature.toggle', 'Switch features on and off'),
  ('7b1d0a10-0000-4000-8000-000000000005', 'feature.manage', 'Create, edit and delete features'),
  ('7b1d0a10-0000-4000-8000-000000000006', 'rule.manage', 'Manage rules'),
  ('7b1d0a10-0000-4000-8000-000000000007', 'audit.view', 'View the history'),
  ('7b1d0a10-0000-4000-8000-000000000008', 'membership.manage', 'Manage members');

INSERT INTO public.roles (id, key, name, description) VALUES
  ('7b1d0a20-0000-4000-8000-000000000001', 'project_owner', 'Owner', 'May do everything in the project'),
  ('7b1d0a20-0000-4000-8000-000000000002', 'project_manager', 'Manager', 'Manages features and rules'),
  ('7b1d0a20-0000-4000-8000-000000000003', 'project_member', 'Member', 'Switches features'),
  ('7b1d0a20-0000-4000-8000-000000000004', 'project_viewer', 'Viewer', 'Looks, changes nothing');

INSERT INTO public.role_permissions (role_id, permission_id)
SELECT r.id, p.id
FROM public.roles r
JOIN public.permissions p ON CASE r.key
  WHEN 'project_owner' THEN true
  WHEN 'project_manager' THEN p.key NOT IN ('project.manage', 'membership.manage')
  WHEN 'project_member' THEN p.key IN ('project.view', 'feature.view', 'feature.toggle')
  WHEN 'project_viewer' THEN p.key IN ('project.view', 'feature.view')
  ELSE false
END;
